-- Of a gift: its recipient's address, empty where only a name is known. None: the ticket is no
-- gift.
alter table issuer.tickets add column recipient_email text;
