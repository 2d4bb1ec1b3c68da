-- The address that the mail server was given (the envelope recipient of SMTP), beside the one that
-- the order names: their domains differ when it has letters beyond ASCII. Of the last attempt;
-- empty: the order's address cannot be one. Null: no attempt since this column exists.
alter table delivery.jobs add column envelope_recipient text;
