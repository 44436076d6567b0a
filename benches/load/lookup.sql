\set principal random(:first_principal, :last_principal)
\set service random(0, :services - 1)
\set number random(1, 1000000000)
select exists (
        select from vault.revocations r
        where r.developer_id = :developer
          and (r.kind = 'developer'
            or (r.kind = 'token' and r.subject = :number)
            or (r.kind = 'grant' and r.subject in (:number, null)))
    ) or false as revoked,
    c.id, c.service, c.credential_type, c.token_expires_at,
    c.metadata::text as metadata, c.required_scopes, c.allowed_agents,
    c.access_token, c.wrapped_key, c.master_key
from (select) always
left join vault.credentials c
    on c.developer_id = :developer and c.principal_id = :principal and c.service_key = 'service-' || :service;
