{{/* The path of the local keyring, when there is one. */}}
{{- define "vault.keyringPath" -}}
{{- if .Values.localKeyring.existingSecret -}}
/etc/grantex-vault/keyring/{{ .Values.localKeyring.key }}
{{- end -}}
{{- end }}

{{/* The master key that these values name; empty: the Secret names it. */}}
{{- define "vault.masterKey" -}}
{{- if .Values.masterKey -}}
{{- .Values.masterKey -}}
{{- else if .Values.localKeyring.existingSecret -}}
local:{{ include "vault.keyringPath" . }}
{{- end -}}
{{- end }}

{{/* Whether certificates admit operators. */}}
{{- define "vault.hasOperatorsCa" -}}
{{- with .Values.operators.tls.clientCA }}
{{- if or .existingSecret .existingConfigMap }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Whether there are operators, and so the AdminService. */}}
{{- define "vault.hasOperators" -}}
{{- if or .Values.operators.token.existingSecret (include "vault.hasOperatorsCa" .) }}yes{{ end }}
{{- end }}

{{/* What `serve` is told by environment and is no secret. */}}
{{- define "vault.settings" -}}
{{- $v := .Values -}}
GRANTEX_VAULT_GRPC_ADDR: {{ printf "%s:%d" $v.bindAddress (int $v.ports.grpc) | quote }}
GRANTEX_VAULT_HTTP_ADDR: {{ printf "%s:%d" $v.bindAddress (int $v.ports.http) | quote }}
GRANTEX_VAULT_ADMIN_ADDR: {{ printf "%s:%d" $v.bindAddress (int $v.ports.admin) | quote }}
GRANTEX_VAULT_GRPC_REFLECTION: {{ $v.grpcReflection | quote }}
GRANTEX_VAULT_DB_POOL_SIZE: {{ int $v.database.poolSize | quote }}
GRANTEX_VAULT_KMS_TIMEOUT: {{ $v.kmsTimeout | quote }}
GRANTEX_VAULT_DATA_KEY_CACHE_TTL: {{ $v.dataKeyCache.ttl | quote }}
GRANTEX_VAULT_DATA_KEY_CACHE_ENTRIES: {{ int $v.dataKeyCache.entries | quote }}
GRANTEX_VAULT_JWKS_MAX_STALE: {{ $v.jwks.maxStale | quote }}
GRANTEX_VAULT_AUDIENCE_MODE: {{ $v.audience.mode | quote }}
GRANTEX_VAULT_AUTHORITY: {{ $v.authority | quote }}
GRANTEX_VAULT_SCOPE_MODE: {{ $v.grants.scopeMode | quote }}
GRANTEX_VAULT_MAX_DELEGATION_DEPTH: {{ int $v.grants.maxDelegationDepth | quote }}
GRANTEX_VAULT_MAX_TOKEN_LIFETIME: {{ $v.grants.maxTokenLifetime | quote }}
GRANTEX_VAULT_READINESS_GRACE: {{ $v.readinessGrace | quote }}
GRANTEX_VAULT_DRAIN_DELAY: {{ printf "%ds" (int $v.drainDelaySeconds) | quote }}
GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT: {{ int $v.limits.exchangePerGrant | quote }}
GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER: {{ int $v.limits.requestsPerDeveloper | quote }}
GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS: {{ int $v.limits.failedAuthPerAddress | quote }}
GRANTEX_VAULT_MAX_IN_FLIGHT: {{ int $v.limits.maxInFlight | quote }}
{{- with $v.limits.maxInFlightPerDeveloper }}
GRANTEX_VAULT_MAX_IN_FLIGHT_PER_DEVELOPER: {{ int . | quote }}
{{- end }}
GRANTEX_VAULT_MAX_CONNECTIONS: {{ int $v.limits.maxConnections | quote }}
{{- with $v.limits.maxConnectionsPerAddress }}
GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS: {{ int . | quote }}
{{- end }}
GRANTEX_VAULT_IDLE_TIMEOUT: {{ $v.idleTimeout | quote }}
GRANTEX_VAULT_LOG_FORMAT: {{ $v.log.format | quote }}
RUST_LOG: {{ $v.log.level | quote }}
{{- with include "vault.masterKey" . }}
GRANTEX_VAULT_MASTER_KEY: {{ . | quote }}
{{- end }}
{{- with $v.oldMasterKeys }}
GRANTEX_VAULT_OLD_MASTER_KEYS: {{ join "," . | quote }}
{{- end }}
{{- with $v.issuer }}
GRANTEX_VAULT_ISSUER: {{ . | quote }}
{{- end }}
{{- with $v.jwks.url }}
GRANTEX_VAULT_JWKS_URL: {{ . | quote }}
{{- end }}
{{- if $v.jwks.configMap }}
GRANTEX_VAULT_JWKS_FILE: {{ printf "/etc/grantex-vault/jwks/%s" $v.jwks.key | quote }}
{{- end }}
{{- with $v.audience.name }}
GRANTEX_VAULT_AUDIENCE: {{ . | quote }}
{{- end }}
{{- with $v.trustedProxies }}
GRANTEX_VAULT_TRUSTED_PROXIES: {{ join "," . | quote }}
{{- end }}
{{- if $v.tls.enabled }}
GRANTEX_VAULT_TLS_CERT_FILE: /etc/grantex-vault/tls/tls.crt
GRANTEX_VAULT_TLS_KEY_FILE: /etc/grantex-vault/tls/tls.key
{{- if or $v.tls.clientCA.existingSecret $v.tls.clientCA.existingConfigMap }}
GRANTEX_VAULT_TLS_CLIENT_CA_FILE: {{ printf "/etc/grantex-vault/client-ca/%s" $v.tls.clientCA.key | quote }}
{{- end }}
{{- end }}
{{- if include "vault.adminTlsSecret" . }}
GRANTEX_VAULT_ADMIN_TLS_CERT_FILE: /etc/grantex-vault/admin-tls/tls.crt
GRANTEX_VAULT_ADMIN_TLS_KEY_FILE: /etc/grantex-vault/admin-tls/tls.key
{{- end }}
{{- if include "vault.hasOperators" . }}
GRANTEX_VAULT_OPERATOR_ADDR: {{ printf "%s:%d" $v.bindAddress (int $v.ports.operators) | quote }}
GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE: /etc/grantex-vault/operators-tls/tls.crt
GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE: /etc/grantex-vault/operators-tls/tls.key
{{- if $v.operators.token.existingSecret }}
GRANTEX_VAULT_OPERATOR_TOKEN_FILE: {{ printf "/etc/grantex-vault/operators-token/%s" $v.operators.token.key | quote }}
{{- end }}
{{- if include "vault.hasOperatorsCa" . }}
GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE: {{ printf "/etc/grantex-vault/operators-client-ca/%s" $v.operators.tls.clientCA.key | quote }}
GRANTEX_VAULT_OPERATOR_SANS: {{ join "," $v.operators.tls.clientNames | quote }}
{{- end }}
{{- end }}
{{- with $v.otlp.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- with $v.aws.region }}
AWS_REGION: {{ . | quote }}
{{- end }}
{{- with $v.aws.webIdentity.roleArn }}
AWS_ROLE_ARN: {{ . | quote }}
AWS_WEB_IDENTITY_TOKEN_FILE: /var/run/secrets/grantex-vault/aws/token
{{- end }}
{{- range $name, $value := $v.extraSettings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* What `migrate` is told. */}}
{{- define "vault.migrationSettings" -}}
GRANTEX_VAULT_LOG_FORMAT: {{ .Values.log.format | quote }}
RUST_LOG: {{ .Values.log.level | quote }}
{{- if not .Values.singleRole }}
GRANTEX_VAULT_DB_ROLE: {{ .Values.migration.dbRole | quote }}
{{- end }}
{{- end }}
