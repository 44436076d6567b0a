\set number random(1, 1000000000000000)
begin;
insert into bare.credentials (developer_id, id, principal_id, service, service_key, credential_type,
    access_token, refresh_token, wrapped_key, master_key, metadata, created_at, updated_at)
values (:developer, 'vc_' || lpad(:number, 26, '0'), 'stored-' || lpad(:number, 12, '0'),
    'GitHub', 'github', 'oauth2', :access_token::bytea, :refresh_token::bytea, :wrapped_key::bytea,
    :master_key, '{}', now(), now());
commit;
