{{/*
What a schema cannot say, because it concerns several values or deserves a sentence. Every sentence says which
value is wrong and what would be right; none repeats a value that might be a secret.
*/}}
{{- define "vault.validate" -}}
{{- $v := .Values -}}
{{- include "vault.validateNeeds" . -}}
{{- include "vault.validateSettings" . -}}
{{- include "vault.validateTls" . -}}
{{- include "vault.validateOperators" . -}}
{{- include "vault.validatePods" . -}}
{{- include "vault.validateRoutes" . -}}
{{- end }}

{{- define "vault.validateNeeds" -}}
{{- $v := .Values -}}
{{- if not $v.existingSecret }}
{{- fail "existingSecret must name a Secret with the key DATABASE_URL: this chart makes no Secret" }}
{{- end }}
{{- if and $v.migration.enabled (not $v.singleRole) }}
{{- if not $v.migration.existingSecret }}
{{- fail "migration.existingSecret must name a Secret with the URL of the schema's owner; singleRole: true says that the role that serves owns the schema" }}
{{- end }}
{{- if not $v.migration.dbRole }}
{{- fail "migration.dbRole must name the role that serves, so that it is granted what it needs; singleRole: true says that it owns the schema" }}
{{- end }}
{{- if and (eq $v.migration.existingSecret $v.existingSecret) (eq $v.migration.secretKey $v.database.secretKey) }}
{{- fail "migration.existingSecret is existingSecret, with the same key: the owner of the schema and the role that serves are two, unless singleRole: true" }}
{{- end }}
{{- end }}
{{- if not $v.image.repository }}
{{- fail "image.repository must say where the image is" }}
{{- end }}
{{- if and $v.image.digest (not (regexMatch "^sha256:[0-9a-f]{64}$" $v.image.digest)) }}
{{- fail "image.digest must be sha256: and 64 hexadecimal digits" }}
{{- end }}
{{- range $key := prepend $v.oldMasterKeys $v.masterKey }}
{{- if and $key (not (regexMatch "^(aws-kms:.+|local:/.+)$" $key)) }}
{{- fail "masterKey and each of oldMasterKeys must be aws-kms:<key id, ARN or alias/…> or local:<absolute path>" }}
{{- end }}
{{- if and (hasPrefix "local:" $key) (ne $key (printf "local:%s" (include "vault.keyringPath" $))) (not $v.extraVolumeMounts) }}
{{- fail "a local: master key needs its file: set localKeyring.existingSecret to a Secret with the keyring, or mount one by extraVolumes and extraVolumeMounts" }}
{{- end }}
{{- end }}
{{- if and $v.localKeyring.existingSecret $v.masterKey (not (has (printf "local:%s" (include "vault.keyringPath" .)) (prepend $v.oldMasterKeys $v.masterKey))) }}
{{- fail (printf "localKeyring.existingSecret is mounted but no master key uses it: name local:%s in masterKey or oldMasterKeys" (include "vault.keyringPath" .)) }}
{{- end }}
{{- if and $v.issuer (not $v.jwks.url) (not $v.jwks.configMap) (not (hasPrefix "https://" $v.issuer)) }}
{{- fail "issuer must be an https URL, or jwks.url must say where its key set is" }}
{{- end }}
{{- if and $v.jwks.url $v.jwks.configMap }}
{{- fail "jwks.url and jwks.configMap are both set: the key set is fetched or read, not both" }}
{{- end }}
{{- if and $v.jwks.url (not (hasPrefix "https://" $v.jwks.url)) }}
{{- fail "jwks.url must be an https URL: whoever can change the answer can forge grants" }}
{{- end }}
{{- if and (eq $v.audience.mode "require") (not $v.audience.name) }}
{{- fail "audience.mode is require, so audience.name must say which audience" }}
{{- end }}
{{- end }}

{{- define "vault.validateSettings" -}}
{{- $v := .Values -}}
{{- $durations := dict "kmsTimeout" $v.kmsTimeout "dataKeyCache.ttl" $v.dataKeyCache.ttl "readinessGrace" $v.readinessGrace "idleTimeout" $v.idleTimeout "jwks.maxStale" $v.jwks.maxStale "grants.maxTokenLifetime" $v.grants.maxTokenLifetime }}
{{- range $name, $duration := $durations }}
{{- if not (regexMatch "^(0|([0-9]+(ms|s|m|h))+)$" (toString $duration)) }}
{{- fail (printf "%s must be a duration such as 500ms, 5s, 2m or 24h" $name) }}
{{- end }}
{{- end }}
{{- if has (toString $v.kmsTimeout) (list "0" "0s" "0ms") }}
{{- fail "kmsTimeout must be more than 0" }}
{{- end }}
{{- range $v.trustedProxies }}
{{- if not (regexMatch "^[0-9a-fA-F.:]+/[0-9]{1,3}$" .) }}
{{- fail (printf "trustedProxies must be CIDRs such as 10.0.0.0/8, and %q is not" .) }}
{{- end }}
{{- end }}
{{- if and $v.otlp.endpoint (not (regexMatch "^https?://[^/]+" $v.otlp.endpoint)) }}
{{- fail "otlp.endpoint must be a URL such as http://collector.monitoring:4317" }}
{{- end }}
{{- if and $v.otlp.endpoint $v.networkPolicy.enabled }}
{{- $host := (urlParse $v.otlp.endpoint).host }}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https://" $v.otlp.endpoint)) }}
{{- if not (has $port (splitList "," (join "," $v.networkPolicy.egress.otlp.ports))) }}
{{- fail (printf "otlp.endpoint is at port %s, which networkPolicy.egress.otlp.ports does not list" $port) }}
{{- end }}
{{- end }}
{{- $own := fromYaml (include "vault.settings" (dict "Chart" .Chart "Release" .Release "Values" (set (deepCopy $v) "extraSettings" dict))) }}
{{- $optional := list "GRANTEX_VAULT_OLD_MASTER_KEYS" "GRANTEX_VAULT_JWKS_URL" "GRANTEX_VAULT_JWKS_FILE" "GRANTEX_VAULT_AUDIENCE" "GRANTEX_VAULT_TRUSTED_PROXIES" "GRANTEX_VAULT_TLS_CERT_FILE" "GRANTEX_VAULT_TLS_KEY_FILE" "GRANTEX_VAULT_TLS_CLIENT_CA_FILE" "GRANTEX_VAULT_ADMIN_TLS_CERT_FILE" "GRANTEX_VAULT_ADMIN_TLS_KEY_FILE" "GRANTEX_VAULT_OPERATOR_ADDR" "GRANTEX_VAULT_OPERATOR_TOKEN_FILE" "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE" "GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE" "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE" "GRANTEX_VAULT_OPERATOR_SANS" "GRANTEX_VAULT_MASTER_KEY" "GRANTEX_VAULT_MASTER_KEY_FILE" "GRANTEX_VAULT_ISSUER" "GRANTEX_VAULT_ISSUER_FILE" "GRANTEX_VAULT_MIGRATE" "GRANTEX_VAULT_DB_ROLE" "OTEL_EXPORTER_OTLP_ENDPOINT" }}
{{- range $name, $value := $v.extraSettings }}
{{- if not (regexMatch "^(GRANTEX_VAULT_|OTEL_|AWS_|RUST_|SSL_CERT_)[A-Z0-9_]+$" $name) }}
{{- fail (printf "extraSettings.%s is no setting: names begin with GRANTEX_VAULT_, OTEL_, AWS_, RUST_ or SSL_CERT_; anything else goes into extraEnv" $name) }}
{{- end }}
{{- if or (regexMatch "(DATABASE_URL|SECRET|PASSWORD|SESSION_TOKEN|ACCESS_KEY|_HEADERS$)" $name) (regexMatch "://[^/@]+:[^/@]+@" $value) }}
{{- fail (printf "extraSettings.%s may be a secret and would stand in a ConfigMap: pass it by extraEnv with valueFrom.secretKeyRef" $name) }}
{{- end }}
{{- if or (hasKey $own $name) (has $name $optional) }}
{{- fail (printf "extraSettings.%s is set by the chart: use its own value, which README.md names" $name) }}
{{- end }}
{{- end }}
{{- range $v.extraEnv }}
{{- if and (hasKey . "value") (regexMatch "(DATABASE_URL|SECRET|PASSWORD|SESSION_TOKEN|ACCESS_KEY)" .name) (not (hasSuffix "_FILE" .name)) }}
{{- fail (printf "extraEnv %s looks like a secret in clear: use valueFrom.secretKeyRef, or existingSecret for DATABASE_URL" .name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vault.validateTls" -}}
{{- $tls := .Values.tls -}}
{{- if $tls.enabled }}
{{- if and $tls.existingSecret $tls.certManager.enabled }}
{{- fail "tls.existingSecret and tls.certManager.enabled are both set: the certificate comes from one of them" }}
{{- end }}
{{- if not (or $tls.existingSecret $tls.certManager.enabled) }}
{{- fail "tls.enabled needs a certificate: set tls.existingSecret, or tls.certManager.enabled with an issuerRef" }}
{{- end }}
{{- if and $tls.certManager.enabled (not $tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.issuerRef.name must name the Issuer or ClusterIssuer that signs" }}
{{- end }}
{{- if and $tls.clientCA.existingSecret $tls.clientCA.existingConfigMap }}
{{- fail "tls.clientCA.existingSecret and tls.clientCA.existingConfigMap are both set: the clients' CA comes from one of them" }}
{{- end }}
{{- else if or $tls.existingSecret $tls.certManager.enabled $tls.clientCA.existingSecret $tls.clientCA.existingConfigMap }}
{{- fail "a certificate or clients' CA is set under tls, but tls.enabled is false: the listeners would speak in clear" }}
{{- end }}
{{- end }}

{{- define "vault.validateOperators" -}}
{{- $v := .Values -}}
{{- $tls := $v.operators.tls -}}
{{- $hasCa := include "vault.hasOperatorsCa" . -}}
{{- if and $tls.clientCA.existingSecret $tls.clientCA.existingConfigMap }}
{{- fail "operators.tls.clientCA.existingSecret and operators.tls.clientCA.existingConfigMap are both set: the operators' CA comes from one of them" }}
{{- end }}
{{- $certificate := include "vault.operatorsTlsSecret" . -}}
{{- if and $tls.existingSecret $tls.certManager.enabled }}
{{- fail "operators.tls.existingSecret and operators.tls.certManager.enabled are both set: the certificate comes from one of them" }}
{{- end }}
{{- if and $tls.certManager.enabled (not $tls.certManager.issuerRef.name) }}
{{- fail "operators.tls.certManager.issuerRef.name must name the Issuer or ClusterIssuer that signs" }}
{{- end }}
{{- if and $hasCa (not $certificate) }}
{{- fail "operators.tls.clientCA needs operators.tls.existingSecret or operators.tls.certManager: without a certificate of its own the operators' port asks for none" }}
{{- end }}
{{- if and $hasCa (not $tls.clientNames) }}
{{- fail "operators.tls.clientCA needs operators.tls.clientNames: not every certificate of a CA is an operator's" }}
{{- end }}
{{- if and $tls.clientNames (not $hasCa) }}
{{- fail "operators.tls.clientNames is set, but operators.tls.clientCA names no CA whose certificates they are in" }}
{{- end }}
{{- if and $v.operators.token.existingSecret (not $certificate) }}
{{- fail "operators.token needs operators.tls.existingSecret or operators.tls.certManager: the token would go in clear" }}
{{- end }}
{{- if and $certificate (not (include "vault.hasOperators" .)) }}
{{- fail "operators.tls has a certificate, but no operator has credentials: set operators.token.existingSecret or operators.tls.clientCA; for probes and metrics see admin.tls" }}
{{- end }}
{{- $admin := $v.admin.tls }}
{{- if and $admin.existingSecret $admin.certManager.enabled }}
{{- fail "admin.tls.existingSecret and admin.tls.certManager.enabled are both set: the certificate comes from one of them" }}
{{- end }}
{{- if and $admin.certManager.enabled (not $admin.certManager.issuerRef.name) }}
{{- fail "admin.tls.certManager.issuerRef.name must name the Issuer or ClusterIssuer that signs" }}
{{- end }}
{{- if and $hasCa $v.tls.enabled (eq (toJson $tls.clientCA) (toJson $v.tls.clientCA)) }}
{{- fail "operators.tls.clientCA is the same as tls.clientCA: every client's certificate would admit an operator" }}
{{- end }}
{{- if and $v.networkPolicy.ingress.operatorsFrom (not (include "vault.hasOperators" .)) }}
{{- fail "networkPolicy.ingress.operatorsFrom admits operators, but none has credentials: set operators.token.existingSecret, or operators.tls with a clientCA" }}
{{- end }}
{{- if and $v.serviceMonitor.tlsConfig (not (include "vault.adminTlsSecret" .)) }}
{{- fail "serviceMonitor.tlsConfig is set, but the admin port speaks in clear: set admin.tls.existingSecret or admin.tls.certManager" }}
{{- end }}
{{- end }}

{{- define "vault.validatePods" -}}
{{- $v := .Values -}}
{{- $grace := add (int $v.drainDelaySeconds) 35 }}
{{- if lt (int64 $v.terminationGracePeriodSeconds) $grace }}
{{- fail (printf "terminationGracePeriodSeconds must be at least %d: drainDelaySeconds (%d), 30 for requests under way, and 5 to spare" $grace (int $v.drainDelaySeconds)) }}
{{- end }}
{{- $ports := list (int $v.ports.grpc) (int $v.ports.http) (int $v.ports.admin) (int $v.ports.operators) }}
{{- if ne (len (uniq $ports)) 4 }}
{{- fail "ports.grpc, ports.http, ports.admin and ports.operators must be four different ports" }}
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" }}
{{- end }}
{{- with $v.podDisruptionBudget }}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "invalid" .maxUnavailable)) }}
{{- fail "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set: a budget has one; set the other to null" }}
{{- end }}
{{- if and .enabled (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable) }}
{{- fail "podDisruptionBudget needs minAvailable or maxUnavailable" }}
{{- end }}
{{- $replicas := ternary (int $v.autoscaling.minReplicas) (int $v.replicaCount) $v.autoscaling.enabled }}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "string" .minAvailable)) (ge (int .minAvailable) $replicas) }}
{{- fail (printf "podDisruptionBudget.minAvailable must be less than the %d replicas: else no node can be drained" $replicas) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vault.validateRoutes" -}}
{{- $v := .Values -}}
{{- range $name := list "http" "grpc" }}
{{- $ingress := index $v.ingress $name }}
{{- if and $ingress.enabled (not $ingress.hosts) }}
{{- fail (printf "ingress.%s.hosts must name at least one host" $name) }}
{{- end }}
{{- $route := index $v.gateway $name }}
{{- if and $route.enabled (not $route.parentRefs) }}
{{- fail (printf "gateway.%s.parentRefs must name the Gateway that the route attaches to" $name) }}
{{- end }}
{{- end }}
{{- if and $v.services.grpc.headless (ne $v.services.grpc.type "ClusterIP") }}
{{- fail "services.grpc.headless goes only with services.grpc.type ClusterIP" }}
{{- end }}
{{- end }}
