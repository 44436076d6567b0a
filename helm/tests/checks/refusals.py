"""Wrong values, and the sentence that refuses each."""

from .rendering import template
from .report import check

SECRET = "hunter2-canary"

# What is set, and what the refusal must say.
WRONG = [
    (["--set", "existingSecret="], "existingSecret must name a Secret with the key DATABASE_URL"),
    (["--set", "image.repository="], "image.repository must say where the image is"),
    (["--set", "image.digest=sha256:abc"], "image.digest must be sha256: and 64 hexadecimal digits"),
    (["--set", "masterKey=gcp-kms:key"], "masterKey and each of oldMasterKeys must be aws-kms:"),
    (["--set", "oldMasterKeys={alias/vault}"], "masterKey and each of oldMasterKeys must be aws-kms:"),
    (["--set", "masterKey=local:/keyring.json"], "a local: master key needs its file: set localKeyring.existingSecret"),
    (["--set", "masterKey=aws-kms:alias/a", "--set", "localKeyring.existingSecret=k"], "no master key uses it"),
    (["--set", "issuer=http://issuer.example.com"], "issuer must be an https URL, or jwks.url must say"),
    (["--set", "jwks.url=http://issuer.example.com/keys"], "jwks.url must be an https URL"),
    (["--set", "jwks.url=https://a.example.com", "--set", "jwks.configMap=keys"], "jwks.url and jwks.configMap are both set"),
    (["--set", "audience.mode=require"], "audience.name must say which audience"),
    (["--set-string", "kmsTimeout=3"], "kmsTimeout must be a duration such as 500ms, 5s, 2m or 24h"),
    (["--set", "kmsTimeout=0s"], "kmsTimeout must be more than 0"),
    (["--set", "dataKeyCache.ttl=five"], "dataKeyCache.ttl must be a duration"),
    (["--set", "readinessGrace=1d"], "readinessGrace must be a duration"),
    (["--set", "jwks.maxStale=-1h"], "jwks.maxStale must be a duration"),
    (["--set-string", "grants.maxTokenLifetime=1d"], "grants.maxTokenLifetime must be a duration"),
    (["--set", "trustedProxies={10.0.0.1}"], "trustedProxies must be CIDRs such as 10.0.0.0/8"),
    (["--set", "otlp.endpoint=collector:4317"], "otlp.endpoint must be a URL such as"),
    (["--set", "otlp.endpoint=http://collector:4318"], "otlp.endpoint is at port 4318, which networkPolicy.egress.otlp.ports does not list"),
    (["--set-string", f"extraSettings.GRANTEX_VAULT_MIGRATE_DATABASE_URL={SECRET}"], "may be a secret and would stand in a ConfigMap"),
    (["--set-string", f"extraSettings.AWS_SECRET_ACCESS_KEY={SECRET}"], "may be a secret and would stand in a ConfigMap"),
    (["--set-string", f"extraSettings.OTEL_EXPORTER_OTLP_HEADERS={SECRET}"], "may be a secret and would stand in a ConfigMap"),
    (["--set-string", f"extraSettings.GRANTEX_VAULT_X=https://user:{SECRET}@example.com"], "may be a secret and would stand in a ConfigMap"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_KMS_TIMEOUT=5s"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_TLS_CERT_FILE=/x"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_ADMIN_TOKEN_FILE=/x"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_ADMIN_TLS_CERT_FILE=/x"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_ADMIN_TLS_KEY_FILE=/x"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.GRANTEX_VAULT_ADMIN_TLS_CLIENT_CA_FILE=/x"], "is set by the chart: use its own value"),
    (["--set-string", "extraSettings.KMS_TIMEOUT=5s"], "is no setting: names begin with GRANTEX_VAULT_"),
    (["--set-json", f'extraEnv=[{{"name":"DATABASE_URL","value":"{SECRET}"}}]'], "looks like a secret in clear"),
    (["--set", "tls.enabled=true"], "tls.enabled needs a certificate"),
    (["--set", "tls.enabled=true", "--set", "tls.existingSecret=a", "--set", "tls.certManager.enabled=true"], "the certificate comes from one of them"),
    (["--set", "tls.enabled=true", "--set", "tls.certManager.enabled=true"], "tls.certManager.issuerRef.name must name the Issuer"),
    (["--set", "tls.clientCA.existingSecret=ca"], "tls.enabled is false: the listeners would speak in clear"),
    (["--set", "tls.enabled=true", "--set", "tls.existingSecret=a", "--set", "tls.clientCA.existingSecret=b", "--set", "tls.clientCA.existingConfigMap=c"], "the clients' CA comes from one of them"),
    (["--set", "operators.tls.clientCA.existingSecret=ca"], "operators.tls.clientCA needs operators.tls.existingSecret"),
    (["--set", "operators.token.existingSecret=t", "--set", "operators.tls.clientCA.existingConfigMap=ca"], "operators.tls.clientCA needs operators.tls.existingSecret"),
    (["--set", "operators.tls.existingSecret=a", "--set", "operators.tls.clientCA.existingSecret=b", "--set", "operators.tls.clientCA.existingConfigMap=c"], "the operators' CA comes from one of them"),
    (["--set", "tls.enabled=true", "--set", "tls.existingSecret=a", "--set", "tls.clientCA.existingSecret=b", "--set", "operators.tls.existingSecret=a", "--set", "operators.tls.clientCA.existingSecret=b"], "operators.tls.clientCA is the same as tls.clientCA"),
    (["--set", "operators.tls.existingSecret=a", "--set", "operators.tls.certManager.enabled=true"], "operators.tls.existingSecret and operators.tls.certManager.enabled are both set"),
    (["--set", "operators.tls.certManager.enabled=true"], "operators.tls.certManager.issuerRef.name must name the Issuer"),
    (["--set", "networkPolicy.ingress.operatorsFrom[0].podSelector.matchLabels.a=b"], "networkPolicy.ingress.operatorsFrom admits operators, but none has credentials"),
    (["--set", "operators.tls.existingSecret=a", "--set", "networkPolicy.ingress.operatorsFrom[0].podSelector.matchLabels.a=b"], "networkPolicy.ingress.operatorsFrom admits operators, but none has credentials"),
    (["--set", "serviceMonitor.tlsConfig.serverName=a"], "serviceMonitor.tlsConfig is set, but the admin port speaks in clear"),
    (["--set", "terminationGracePeriodSeconds=49"], "terminationGracePeriodSeconds must be at least 50"),
    (["--set", "drainDelaySeconds=60"], "terminationGracePeriodSeconds must be at least 95"),
    (["--set", "ports.admin=8080"], "must be three different ports"),
    (["--set", "autoscaling.enabled=true", "--set", "autoscaling.minReplicas=20"], "autoscaling.minReplicas must not be more than autoscaling.maxReplicas"),
    (["--set", "podDisruptionBudget.minAvailable=1"], "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set"),
    (["--set", "podDisruptionBudget.minAvailable=2", "--set-json", "podDisruptionBudget.maxUnavailable=null"], "else no node can be drained"),
    (["--set-json", "podDisruptionBudget.maxUnavailable=null"], "podDisruptionBudget needs minAvailable or maxUnavailable"),
    (["--set", "ingress.http.enabled=true"], "ingress.http.hosts must name at least one host"),
    (["--set", "ingress.grpc.enabled=true"], "ingress.grpc.hosts must name at least one host"),
    (["--set", "gateway.http.enabled=true"], "gateway.http.parentRefs must name the Gateway"),
    (["--set", "gateway.grpc.enabled=true"], "gateway.grpc.parentRefs must name the Gateway"),
    (["--set", "services.grpc.headless=true", "--set", "services.grpc.type=NodePort"], "services.grpc.headless goes only with services.grpc.type ClusterIP"),
    (["--set", "prometheusRule.enabled=true", "--set", "prometheusRule.disabledAlerts={Nonsense}"], "there is no alert Nonsense"),
    # By the schema.
    (["--set", "replicas=3"], "additional properties 'replicas' not allowed"),
    (["--set", "image.name=vault"], "additional properties 'name' not allowed"),
    (["--set", "tls.certManager.issuerRef.nam=x"], "additional properties 'nam' not allowed"),
    (["--set", "replicaCount=two"], "at '/replicaCount': got string, want integer"),
    (["--set", "log.format=xml"], "at '/log/format': value must be one of 'json', 'pretty'"),
    (["--set", "audience.mode=maybe"], "at '/audience/mode': value must be one of 'optional', 'require', 'off'"),
    (["--set", "authority=vault"], "at '/authority': value must be one of 'standalone', 'grantex'"),
    (["--set", "grants.scopeMode=lax"], "at '/grants/scopeMode': value must be one of 'exact', 'compatible'"),
    (["--set", "grants.maxDelegationDepth=-1"], "at '/grants/maxDelegationDepth': minimum: got -1, want 0"),
    (["--set", "grants.maxTokenLifeTime=1h"], "additional properties 'maxTokenLifeTime' not allowed"),
    (["--set", "ports.grpc=443"], "at '/ports/grpc': minimum: got 443, want 1,024"),
    (["--set", "runAsUser=0"], "at '/runAsUser': minimum: got 0, want 1"),
    (["--set", "limits.maxInFlight=0"], "at '/limits/maxInFlight': minimum: got 0, want 1"),
    (["--set", "limits.exchangePerGrant=-1"], "at '/limits/exchangePerGrant': minimum: got -1, want 0"),
    (["--set", "image.pullPolicy=Sometimes"], "at '/image/pullPolicy': value must be one of"),
    (["--set", "aws.webIdentity.roleArn=vault"], "at '/aws/webIdentity/roleArn': 'vault' does not match pattern"),
    (["--set", "ingress.http.hosts={Vault_1}"], "at '/ingress/http/hosts/0': 'Vault_1' does not match pattern"),
    (["--set", "networkPolicy.ingress.publicFrom[0].namespace=x"], "additional properties 'namespace' not allowed"),
    (["--set", "networkPolicy.ingress.operatorsFrom[0].namespace=x"], "additional properties 'namespace' not allowed"),
    (["--set", f"operators.token.value={SECRET}"], "additional properties 'value' not allowed"),
    (["--set", "existingSecret=Not_A_Name"], "at '/existingSecret': 'Not_A_Name' does not match pattern"),
]


def run() -> None:
    for args, sentence in WRONG:
        done = template(*args)
        shown = " ".join(arg for arg in args if not arg.startswith("--")).replace(SECRET, "…")
        check(f"{shown} is refused", done.returncode != 0, "it was rendered")
        check(f"{shown} is refused by: {sentence}", sentence in done.stderr, done.stderr)
        check(f"the refusal of {shown} repeats no secret", SECRET not in done.stdout + done.stderr)
