/*
    The types of files that WhatsApp takes, with their largest sizes.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Media", "Supported media types".)
*/
create table private.media_types (
    -- the type of the message
    type      text not null,
    -- in lower case, without parameters
    mime_type text not null,
    -- in bytes
    max_size  bigint not null,

    primary key (type, mime_type)
);
alter table private.media_types enable row level security;


create policy "nobody reads media types directly"
    on private.media_types
    for all
    to authenticated
    using (false);


insert into private.media_types (type, mime_type, max_size)
values
    ('audio', 'audio/aac', 16777216),
    ('audio', 'audio/amr', 16777216),
    ('audio', 'audio/mpeg', 16777216),
    ('audio', 'audio/mp4', 16777216),
    -- with Opus, see open_upload
    ('audio', 'audio/ogg', 16777216),
    ('audio', 'audio/opus', 16777216),
    ('document', 'text/plain', 104857600),
    ('document', 'application/pdf', 104857600),
    ('document', 'application/msword', 104857600),
    ('document', 'application/vnd.ms-excel', 104857600),
    ('document', 'application/vnd.ms-powerpoint', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', 104857600),
    ('document', 'application/vnd.openxmlformats-officedocument.presentationml.presentation', 104857600),
    ('image', 'image/jpeg', 5242880),
    ('image', 'image/png', 5242880),
    -- this is the limit for an animated sticker; others may have 100 KB, which WhatsApp itself
    -- checks
    ('sticker', 'image/webp', 512000),
    ('video', 'video/3gpp', 16777216),
    ('video', 'video/mp4', 16777216);


comment on table private.media_types is
    'The media types that WhatsApp takes in each type of message, with their largest sizes in bytes.';
comment on policy "nobody reads media types directly" on private.media_types is
    'A refusal names the types that are allowed.';
