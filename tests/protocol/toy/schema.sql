-- Created by the harness in a migrated database. Each law that can be a constraint is one.
create schema toy;

create table toy.inputs (
    id     text primary key,  -- an input has one effect, however often it comes
    key    text not null,
    what   text not null,
    amount bigint not null check (amount >= 0),
    note   text not null
);

create table toy.firsts (
    key               text primary key,
    state             text not null default 'new',
    children          text[] not null default '{}',
    total             bigint not null default 0,
    is_due            boolean not null default false,
    confirmed         int not null default 0,
    answer_generation bigint not null default 0,
    answer_sequence   bigint not null default 0,
    sequence          bigint not null default 0,
    digest            bytea,  -- of the last snapshot
    check ((sequence = 0) = (digest is null))
);

create table toy.snapshots (
    key        text not null,
    generation bigint not null,
    sequence   bigint not null check (sequence >= 1),
    state      text not null,
    children   text[] not null,
    total      bigint not null,
    confirmed  int not null,
    primary key (key, generation, sequence)  -- a position is given once
);

create table toy.seconds (
    key               text primary key,
    state             text not null default 'new',
    active            int not null default 0,
    first_generation  bigint not null default 0,
    first_sequence    bigint not null default 0,
    sequence          bigint not null default 0,
    digest            bytea,
    check ((sequence = 0) = (digest is null))
);

create table toy.children (
    key    text not null references toy.seconds,
    child  text not null,
    active boolean not null,
    primary key (key, child)
);
