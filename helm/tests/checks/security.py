"""What must hold of every pod, hook, Service and policy that the chart makes."""

from .paths import CHART
from .rendering import RELEASE, annotation, name, of_kind, pods, render
from .report import check, none, same
from .schemas import VARIANTS, renderings

HOOK, WEIGHT = "helm.sh/hook", "helm.sh/hook-weight"
ARGO_HOOK, ARGO_WAVE = "argocd.argoproj.io/hook", "argocd.argoproj.io/sync-wave"


def run() -> None:
    for title, args in renderings().items():
        resources = render(*args)
        none(f"{title}: no Secret is made", map(name, of_kind(resources, "Secret")))
        for item, labels, spec in pods(resources):
            pod(f"{title}: {name(item)}", spec, fixed_user=title != "nothing optional")
        probes(title, resources)
        files(title, resources)
        admin_port(title, resources)
        selectors(title, resources)
        references(title, resources)
        migration(title, resources)
        policies(title, resources)
    identity()
    platforms()
    operators()
    settings()


def pod(title: str, spec: dict, *, fixed_user: bool) -> None:
    context = spec["securityContext"]
    same(f"{title} is not root", context["runAsNonRoot"], True)
    same(f"{title} has the default seccomp profile", context["seccompProfile"], {"type": "RuntimeDefault"})
    if fixed_user:
        users = [context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")]
        same(f"{title} is 65532", users, [65532] * 3)
    same(f"{title} has no token of the Kubernetes API", spec["automountServiceAccountToken"], False)
    same(f"{title} has no Service variables", spec["enableServiceLinks"], False)
    none(f"{title} shares nothing with its host", {"hostNetwork", "hostPID", "hostIPC"} & spec.keys())
    for container in spec["containers"]:
        own = container["securityContext"]
        same(f"{title} cannot gain privileges", own["allowPrivilegeEscalation"], False)
        same(f"{title} has a read-only root", own["readOnlyRootFilesystem"], True)
        same(f"{title} drops all capabilities", own["capabilities"], {"drop": ["ALL"]})
        check(f"{title} has bounds of memory", container["resources"]["limits"]["memory"])
        check(f"{title} requests CPU and memory", container["resources"]["requests"].keys() == {"cpu", "memory"})
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        same(f"{title} mounts its volumes", mounts, {volume["name"] for volume in spec.get("volumes", [])})
        none(f"{title} has no subPath, whose files never change", (m for m in container.get("volumeMounts", []) if "subPath" in m))
        secrets = [entry["name"] for entry in container.get("env", []) if "DATABASE_URL" in entry["name"]]
        none(f"{title} has no database URL in its environment", (entry for entry in secrets if not entry.endswith("_FILE")))
        from_secret = [entry["name"] for entry in container.get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})]
        none(f"{title} has nothing of a Secret in its environment", from_secret)
        none(f"{title} takes no Secret as its environment", (source for source in container.get("envFrom", []) if "secretRef" in source))
    for volume in spec.get("volumes", []):
        for source in ("secret", "projected"):
            if source in volume:
                same(f"{title}: volume {volume['name']} is not for others", volume[source]["defaultMode"], 0o440)


def settings_of(resources) -> dict[str, str]:
    """What `serve` reads."""
    (config,) = [item for item in of_kind(resources, "ConfigMap", "server") if "RUST_LOG" in item["data"]]
    return config["data"]


def admin_has_tls(resources) -> bool:
    return "GRANTEX_VAULT_ADMIN_TLS_CERT_FILE" in settings_of(resources)


def files(title: str, resources) -> None:
    """Each file that a setting names is one that a volume brings, and a certificate comes with its key."""
    (deployment,) = of_kind(resources, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    brought = {
        f"{folders[volume['name']]}/{entry['path']}"
        for volume in spec["volumes"]
        for entry in volume.get("secret", volume.get("configMap", {})).get("items", [])
    }
    made = settings_of(resources) | {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    ours = {name: path for name, path in made.items() if name.endswith("_FILE") and not name.startswith("AWS_")}
    none(f"{title}: each file that is named is mounted", (f"{name}: {path}" for name, path in ours.items() if path not in brought))
    for kind in ("TLS", "ADMIN_TLS", "OPERATOR_TLS"):
        given = {f"GRANTEX_VAULT_{kind}_{part}_FILE" for part in ("CERT", "KEY")} & ours.keys()
        check(f"{title}: {kind} has certificate and key, or neither", len(given) in (0, 2), given)


def admin_port(title: str, resources) -> None:
    """Whoever asks the admin port speaks as it does."""
    tls = admin_has_tls(resources)
    (service,) = [item for item in of_kind(resources, "Service") if item["spec"]["ports"][0]["name"] == "admin"]
    same(f"{title}: the admin Service says what it speaks", service["spec"]["ports"][0]["appProtocol"], "https" if tls else "http")
    for monitor in of_kind(resources, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        same(f"{title}: Prometheus speaks it", endpoint.get("scheme", "http"), "https" if tls else "http")
        same(f"{title}: Prometheus is told how to verify", "tlsConfig" in endpoint, tls)
    for item in of_kind(resources, "Pod", "test"):
        same(f"{title}: helm test speaks it", "--tls" in item["spec"]["containers"][0]["args"], tls)


def probes(title: str, resources) -> None:
    (deployment,) = of_kind(resources, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    operators = {"operators"} if "GRANTEX_VAULT_OPERATOR_ADDR" in settings_of(resources) else set()
    same(f"{title}: ports", set(ports), {"grpc", "http", "admin"} | operators)
    for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        scheme = {"scheme": "HTTPS"} if admin_has_tls(resources) else {}
        same(f"{title}: {probe} asks the admin port", container[probe]["httpGet"], {"path": path, "port": "admin", **scheme})
    config = settings_of(resources)
    drain = int(config["GRANTEX_VAULT_DRAIN_DELAY"].removesuffix("s"))
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    check(f"{title}: the grace period holds drain delay, 30 s, and some", grace >= drain + 35, f"{grace}, {drain}")
    checksum = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    same(f"{title}: the settings' checksum is one", len(checksum), 64)
    same(f"{title}: a Pod becomes ready before another goes", deployment["spec"]["strategy"]["rollingUpdate"], {"maxUnavailable": 0, "maxSurge": 1})


def matches(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def selectors(title: str, resources) -> None:
    made = {item["kind"]: labels for item, labels, _ in pods(resources)}
    chosen = {
        **{name(item): (item["spec"]["selector"], "Deployment") for item in of_kind(resources, "Service")},
        **{name(item): (item["spec"]["selector"]["matchLabels"], "Deployment") for item in of_kind(resources, "PodDisruptionBudget")},
        **{name(item): (item["spec"]["selector"]["matchLabels"], "Deployment") for item in of_kind(resources, "Deployment")},
    }
    component = {"server": "Deployment", "migration": "Job", "test": "Pod"}
    for item in of_kind(resources, "NetworkPolicy"):
        kind = component[item["metadata"]["labels"]["app.kubernetes.io/component"]]
        chosen[name(item)] = (item["spec"]["podSelector"]["matchLabels"], kind)
    for title_of, (selector, kind) in chosen.items():
        found = {made_kind for made_kind, labels in made.items() if matches(selector, labels)}
        same(f"{title}: {title_of} selects its pods and no others", found, {kind})
    (deployment,) = of_kind(resources, "Deployment")
    for constraint in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
        check(f"{title}: spread by {constraint['topologyKey']} counts its pods",
              matches(constraint["labelSelector"]["matchLabels"], made["Deployment"]))
    for monitor in of_kind(resources, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [item for item in of_kind(resources, "Service") if matches(wanted, item["metadata"]["labels"])]
        same(f"{title}: the ServiceMonitor finds one Service", [item["spec"]["ports"][0]["name"] for item in found], ["admin"])


def references(title: str, resources) -> None:
    """What is referred to is there; a hook refers to hooks of lower weight only, and nothing else refers to hooks."""
    index = {name(item): item for item in resources}
    for item, _, spec in pods(resources):
        wanted = [f"ServiceAccount/{spec['serviceAccountName']}"] if "serviceAccountName" in spec else []
        for container in spec["containers"]:
            wanted += [f"ConfigMap/{source['configMapRef']['name']}" for source in container.get("envFrom", [])]
        for want in wanted:
            if want == "ServiceAccount/default":
                continue
            target = index.get(want)
            if not check(f"{title}: {name(item)} has its {want}", target):
                continue
            same(f"{title}: {want} is there when {name(item)} is", annotation(target, HOOK), annotation(item, HOOK))
            if annotation(item, HOOK):
                check(f"{title}: {want} comes before {name(item)}", int(annotation(target, WEIGHT)) < int(annotation(item, WEIGHT)))
    services = {item["metadata"]["name"]: {port["name"]: port["port"] for port in item["spec"]["ports"]} for item in of_kind(resources, "Service")}
    for item in of_kind(resources, "Ingress"):
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                check(f"{title}: {name(item)} leads to a Service", backend["port"]["name"] in services[backend["name"]])
    for item in of_kind(resources, "HTTPRoute") + of_kind(resources, "GRPCRoute"):
        for rule in item["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                check(f"{title}: {name(item)} leads to a Service", backend["port"] in services[backend["name"]].values())
    for item in of_kind(resources, "HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        check(f"{title}: the autoscaler scales the Deployment", f"{target['kind']}/{target['name']}" in index)
        (deployment,) = of_kind(resources, "Deployment")
        check(f"{title}: an autoscaled Deployment states no replicas", "replicas" not in deployment["spec"])
    for item in of_kind(resources, "Certificate"):
        (deployment,) = of_kind(resources, "Deployment")
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        check(f"{title}: the certificate is mounted", item["spec"]["secretName"] in [v.get("secret", {}).get("secretName") for v in volumes])


def migration(title: str, resources) -> None:
    hooks = [item for item in resources if item["metadata"]["labels"]["app.kubernetes.io/component"] == "migration"]
    if title == "nothing optional":
        same(f"{title}: no migration", hooks, [])
        return
    same(f"{title}: what migrates", sorted(item["kind"] for item in hooks), ["ConfigMap", "Job", "NetworkPolicy", "ServiceAccount"])
    (job,) = [item for item in hooks if item["kind"] == "Job"]
    for item in hooks:
        same(f"{title}: {name(item)} is a hook", annotation(item, HOOK), "pre-install,pre-upgrade")
        same(f"{title}: {name(item)} is one of Argo CD", annotation(item, ARGO_HOOK), "PreSync")
        same(f"{title}: {name(item)} has one weight for both", annotation(item, ARGO_WAVE), annotation(item, WEIGHT))
        check(f"{title}: {name(item)} is replaced by the next", "before-hook-creation" in annotation(item, "helm.sh/hook-delete-policy"))
        check(f"{title}: {name(item)} is replaced by Argo CD", "BeforeHookCreation" in annotation(item, "argocd.argoproj.io/hook-delete-policy"))
        check(f"{title}: {name(item)} stays after a failure", "hook-failed" not in annotation(item, "helm.sh/hook-delete-policy"))
        if item is not job:
            check(f"{title}: {name(item)} comes before the Job", int(annotation(item, WEIGHT)) < int(annotation(job, WEIGHT)))
    check(f"{title}: the Job ends", job["spec"]["activeDeadlineSeconds"] > 0 and job["spec"]["backoffLimit"] >= 0)
    same(f"{title}: the Job migrates", job["spec"]["template"]["spec"]["containers"][0]["args"], ["migrate"])


def policies(title: str, resources) -> None:
    found = of_kind(resources, "NetworkPolicy")
    if title == "nothing optional":
        same(f"{title}: no network policy", found, [])
        return
    for item in found:
        same(f"{title}: {name(item)} denies by default, both ways", sorted(item["spec"]["policyTypes"]), ["Egress", "Ingress"])
        none(f"{title}: {name(item)} has no rule without ports", (r for r in item["spec"].get("ingress", []) + item["spec"]["egress"] if not r.get("ports")))
    (server,) = of_kind(found, "NetworkPolicy", "server")
    by_ports = {tuple(port["port"] for port in rule["ports"]): rule["from"] for rule in server["spec"]["ingress"]}
    same(f"{title}: who comes in", set(by_ports) - {(9443,)}, {(50051, 8080), (9090,)})
    for port in ((9090,), (9443,)):
        none(f"{title}: not everybody reaches port {port}", (peer for peer in by_ports.get(port, []) if peer in ({"podSelector": {}}, {"namespaceSelector": {}})))
    none(f"{title}: no egress to anywhere at 443", (r for r in server["spec"]["egress"] if {"port": 443, "protocol": "TCP"} in r["ports"] and not narrow(r)))
    (migrate,) = of_kind(found, "NetworkPolicy", "migration")
    check(f"{title}: nobody reaches the migration", not migrate["spec"].get("ingress"))
    same(f"{title}: the migration reaches DNS and Postgres", [{p["port"] for p in rule["ports"]} for rule in migrate["spec"]["egress"] if rule not in dns_rules(migrate)], [{5432}])
    same(f"{title}: the migration asks for names where the vault does", dns_rules(migrate), dns_rules(server))
    check(f"{title}: they ask somebody", dns_rules(server))


def narrow(rule: dict) -> bool:
    """Whether an egress rule names its peers, and where those are all addresses leaves out the private ones."""
    blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
    everywhere = [block for block in blocks if block["cidr"] in ("0.0.0.0/0", "::/0")]
    return bool(rule.get("to")) and all({"10.0.0.0/8", "169.254.0.0/16"} <= set(block["except"]) or "fc00::/7" in block["except"] for block in everywhere)


def dns_rules(policy: dict) -> list[dict]:
    return [rule for rule in policy["spec"]["egress"] if {port["port"] for port in rule["ports"]} <= {53, 5353}]


def egress(args: tuple[str, ...]) -> list[int]:
    (server,) = of_kind(render(*args), "NetworkPolicy", "server")
    return [sorted({port["port"] for port in rule["ports"]})[0] for rule in server["spec"]["egress"]]


def identity() -> None:
    """What the examples are for."""
    ci = lambda example: render("--values", str(CHART / "ci" / f"{example}.yaml"))
    same("by default: out go DNS, Postgres, KMS, issuer", egress(()), [53, 5432, 443, 443])
    same("with OTLP: it too", egress(("--set", "otlp.endpoint=http://collector:4317")), [53, 5432, 443, 443, 4317])
    def peers(port: int, *args: str) -> list:
        (server,) = of_kind(render(*args), "NetworkPolicy", "server")
        return [rule["to"] for rule in server["spec"]["egress"] if rule["ports"][0]["port"] == port]

    namespace = lambda name: [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]
    public = [peer["ipBlock"]["cidr"] for peer in peers(443)[1]]
    same("an issuer elsewhere is at a public address", public, ["0.0.0.0/0", "::/0"])
    same("an issuer in the cluster is in its namespace", peers(443, "--set", "issuer=https://auth.identity.svc.cluster.local")[1], namespace("identity"))
    same("a key set in the cluster is in its namespace", peers(443, "--set", "issuer=https://a.example.com", "--set", "jwks.url=https://keys.identity.svc:443/jwks")[1], namespace("identity"))
    same("an issuer of two labels is no Service", len(peers(443, "--set", "issuer=https://example.com")[1]), 2)
    same("a collector in the cluster is in its namespace", peers(4317, "--set", "otlp.endpoint=http://collector.monitoring:4317"), [namespace("monitoring")])
    same("a collector beside the vault is in its namespace", peers(4317, "--set", "otlp.endpoint=http://collector:4317"), [[{"podSelector": {}}]])
    same("a collector with an address is there", peers(4317, "--set", "otlp.endpoint=http://10.1.2.3:4317"), [[{"ipBlock": {"cidr": "10.1.2.3/32"}}]])
    named = ("--set-json", 'networkPolicy.egress.kms.to=[{"ipBlock":{"cidr":"10.9.0.0/24"}}]')
    same("a KMS that is named is the only one", peers(443, *named)[0], [{"ipBlock": {"cidr": "10.9.0.0/24"}}])
    local = ("--set", "localKeyring.existingSecret=keyring", "--set", "jwks.configMap=keys")
    same("with local keys and a key set on file: DNS and Postgres only", egress(local), [53, 5432])
    (account,) = of_kind(ci("aws-irsa"), "ServiceAccount", "server")
    check("IRSA: the service account has its role", annotation(account, "eks.amazonaws.com/role-arn"))
    (account,) = of_kind(ci("gcp-workload-identity"), "ServiceAccount", "server")
    check("GKE: the service account has its identity", annotation(account, "iam.gke.io/gcp-service-account"))
    data = {item["metadata"]["name"]: item.get("data", {}) for item in of_kind(ci("gcp-workload-identity"), "ConfigMap")}
    served = data[f"{RELEASE}-grantex-vault"]
    check("GKE: the SDK finds role and token", {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION"} <= served.keys())
    (deployment,) = of_kind(ci("gcp-workload-identity"), "Deployment")
    sources = [v["projected"]["sources"][0] for v in deployment["spec"]["template"]["spec"]["volumes"] if "projected" in v]
    same("GKE: the token is for AWS", [s["serviceAccountToken"]["audience"] for s in sources], ["sts.amazonaws.com"])
    (job,) = of_kind(ci("aws-irsa"), "Job")
    same("the migration has the owner's URL, serving another", [v["secret"]["secretName"] for v in job["spec"]["template"]["spec"]["volumes"] if "secret" in v], ["grantex-vault-owner"])
    config = next(item for item in of_kind(ci("aws-irsa"), "ConfigMap", "migration"))
    same("the migration grants to the serving role", config["data"]["GRANTEX_VAULT_DB_ROLE"], "grantex_vault_serving")
    def migrating(*args: str) -> tuple[str, str | None]:
        """The Secret that a migration has its URL from, and the role that it grants."""
        (job,) = of_kind(render(*args), "Job")
        (secret,) = [v["secret"]["secretName"] for v in job["spec"]["template"]["spec"]["volumes"] if v["name"] == "database"]
        (config,) = of_kind(render(*args), "ConfigMap", "migration")
        return secret, config["data"].get("GRANTEX_VAULT_DB_ROLE")

    same("by default: the owner migrates, and grants another role", migrating(), ("grantex-vault-owner", "grantex_vault"))
    same("with one role: it migrates, and nothing is granted", migrating("--set", "singleRole=true"), ("grantex-vault", None))
    for args in ((), ("--set", "singleRole=true")):
        (deployment,) = of_kind(render(*args), "Deployment")
        secrets = [v["secret"]["secretName"] for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "database"]
        same(f"pods never see the owner's URL {args}", secrets, ["grantex-vault"])
    (grpc,) = [s for s in of_kind(ci("aws-irsa"), "Service") if s["metadata"]["name"].endswith("-grpc")]
    same("headless: clients see the pods", grpc["spec"]["clusterIP"], "None")
    protocols = lambda example: {p["name"]: p["appProtocol"] for s in of_kind(ci(example), "Service") for p in s["spec"]["ports"]}
    same("in clear: protocols", protocols("minimal"), {"grpc": "kubernetes.io/h2c", "http": "http", "admin": "http"})
    same("with TLS: protocols", protocols("mtls-cert-manager"), {"grpc": "https", "http": "https", "admin": "http"})
    same("with operators: protocols", protocols("operators"), {"grpc": "kubernetes.io/h2c", "http": "http", "admin": "https", "operators": "https"})


def platforms() -> None:
    """What a platform has of its own is let out to where the platform is named, or by a value for each."""
    def reached(*args: str, component: str = "server") -> dict[int, list[str]]:
        """Addresses and namespaces of the rules with peers, by port."""
        (policy,) = of_kind(render(*args), "NetworkPolicy", component)
        found: dict[int, list[str]] = {}
        for rule in policy["spec"]["egress"]:
            for peer in rule.get("to", []):
                labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
                found.setdefault(rule["ports"][0]["port"], []).append(peer.get("ipBlock", {}).get("cidr") or labels.get("kubernetes.io/metadata.name"))
        return found

    cluster = "kube-system"
    agent = ["169.254.170.23/32", "fd00:ec2::23/128"]
    kms = ("--set", "masterKey=aws-kms:alias/vault")
    local = ("--set", "localKeyring.existingSecret=keyring")
    on = lambda platform, *more: reached("--set", f"platform={platform}", *more)
    for component in ("server", "migration"):
        same(f"nowhere in particular: the {component} asks the cluster's DNS only", reached(component=component)[53], [cluster])
        for platform, servers in (
            ("eks", ["169.254.20.10/32"]),
            ("gke", ["169.254.20.10/32", "169.254.169.254/32"]),
            ("aks", ["169.254.10.10/32", "169.254.10.11/32"]),
            ("openshift", []),
        ):
            found = reached("--set", f"platform={platform}", component=component)
            same(f"{platform}: the {component} asks its DNS on the node", found[53], [cluster, *servers])
            same(f"{platform}: the {component} asks OpenShift's", found.get(5353), ["openshift-dns"] if platform == "openshift" else None)
            same(f"{platform}: the {component} reaches a metadata server for names only", [port for port, peers in found.items() if "169.254.169.254/32" in peers], [53] if platform == "gke" else [])
    rules = dns_rules(of_kind(render("--set", "platform=openshift"), "NetworkPolicy", "server")[0])
    none("DNS goes by UDP and TCP", (rule for rule in rules if {port["protocol"] for port in rule["ports"]} != {"UDP", "TCP"}))
    same("a server on the node is named", reached("--set", "networkPolicy.egress.dns.nodeLocal={169.254.25.10,fd00::10}")[53], [cluster, "169.254.25.10/32", "fd00::10/128"])
    same("no server on the node", on("gke", "--set-json", "networkPolicy.egress.dns.nodeLocal=[]")[53], [cluster])
    same("OpenShift's DNS is named", reached("--set", "networkPolicy.egress.dns.openshift=true")[5353], ["openshift-dns"])
    check("OpenShift's DNS is left out", 5353 not in on("openshift", "--set", "networkPolicy.egress.dns.openshift=false"))

    role = "serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::111122223333:role/vault"
    same("EKS: the agent of Pod Identity", on("eks", *kms).get(80), agent)
    same("EKS: the Secret may name a key in AWS", on("eks").get(80), agent)
    for title, found in (
        ("elsewhere", reached(*kms)),
        ("where no key is in AWS", on("eks", *local)),
        ("where a role is annotated", on("eks", *kms, "--set", role)),
        ("where a web identity is named", on("eks", *kms, "--set", "aws.webIdentity.roleArn=arn:aws:iam::111122223333:role/vault")),
        ("where it is switched off", on("eks", *kms, "--set", "networkPolicy.egress.podIdentity=false")),
        ("for the migration", reached("--set", "platform=eks", *kms, component="migration")),
    ):
        same(f"no agent of Pod Identity {title}", found.get(80), None)
    same("the agent of Pod Identity is named", reached(*local, "--set", "networkPolicy.egress.podIdentity=true").get(80), agent)


def operators() -> None:
    """Nobody operates by default; a token, certificates or both admit, over TLS, on a port that monitoring does not reach."""
    made = lambda resources: {name.removeprefix("GRANTEX_VAULT_OPERATOR_") for name in settings_of(resources) if name.startswith("GRANTEX_VAULT_OPERATOR_")}
    always = {"ADDR", "TLS_CERT_FILE", "TLS_KEY_FILE"}
    by_token, by_certificates = (render(*VARIANTS[f"operators by {means}"]) for means in ("a token", "certificates"))
    both = render("--values", str(CHART / "ci" / "operators.yaml"))
    same("by default: no operators", made(render()), set())
    same("by a token: its file, and TLS", made(by_token), always | {"TOKEN_FILE"})
    same("by certificates: their CA, and TLS", made(by_certificates), always | {"TLS_CLIENT_CA_FILE", "SANS"})
    same("by both: all", made(both), always | {"TOKEN_FILE", "TLS_CLIENT_CA_FILE", "SANS"})
    same("by both: the names of certificates", settings_of(both)["GRANTEX_VAULT_OPERATOR_SANS"], "grace@example.com,spiffe://example.com/vault/deployer")
    same("the token has the key that was named", settings_of(by_token)["GRANTEX_VAULT_OPERATOR_TOKEN_FILE"], "/etc/grantex-vault/operators-token/admin")
    check("the admin port speaks TLS without operators", admin_has_tls(render("--set", "admin.tls.existingSecret=vault-admin-tls")))
    check("operators' TLS is not the admin port's", not admin_has_tls(by_token))

    def sources(resources) -> dict[str, str]:
        (deployment,) = of_kind(resources, "Deployment")
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        return {v["name"]: v.get("secret", {}).get("secretName") or v.get("configMap", {}).get("name") for v in volumes}

    wanted = {"tls": "vault-tls", "client-ca": "clients-ca", "admin-tls": "vault-admin-tls", "operators-tls": "vault-operators-tls", "operators-client-ca": "operators-ca"}
    same("by certificates: each file is its own", {k: v for k, v in sources(by_certificates).items() if k in wanted}, wanted)
    wanted = {"operators-token": "vault-operators", "operators-tls": "vault-operators-tls", "operators-client-ca": "operators-ca"}
    same("by both: where it comes from", {k: v for k, v in sources(both).items() if k.startswith("operators-")}, wanted)

    made = {item["metadata"]["name"]: item["spec"] for item in of_kind(render(*VARIANTS["three certificates by cert-manager"]), "Certificate")}
    public, admin, private = (made[f"{RELEASE}-grantex-vault{part}"] for part in ("", "-admin", "-operators"))
    same("by cert-manager: an issuer each", [spec["issuerRef"]["name"] for spec in (public, admin, private)], ["public", "internal", "internal"])
    same("by cert-manager: a Secret each", len({spec["secretName"] for spec in (public, admin, private)}), 3)
    services = lambda spec: {found for name in spec["dnsNames"] if (found := name.split(".")[0].removeprefix(f"{RELEASE}-grantex-vault-"))}
    same("by cert-manager: names of the public Services", services(public), {"grpc", "http"})
    same("by cert-manager: the name of the admin Service", services(admin), {"admin"})
    same("by cert-manager: the name of the operators' Service, and what was added", services(private), {"operators", "vault-operators"})

    def endpoint(resources) -> dict:
        (monitor,) = of_kind(resources, "ServiceMonitor")
        return monitor["spec"]["endpoints"][0]

    same("Prometheus verifies nothing by default", endpoint(by_certificates)["tlsConfig"], {"insecureSkipVerify": True})
    check("Prometheus verifies as it is told", {"ca", "serverName"} == endpoint(both)["tlsConfig"].keys())

    def admitted(resources, port: int) -> list[dict]:
        (policy,) = of_kind(resources, "NetworkPolicy", "server")
        return [peer for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": port}] for peer in rule["from"]]

    apps = lambda peers: [peer.get("podSelector", {}).get("matchLabels", {}).get("app") for peer in peers]
    same("operators come in to their port alone", apps(admitted(both, 9443)), ["vault-console"])
    check("monitoring and the test do not reach operators' port", "vault-console" not in apps(admitted(both, 9090)) and len(admitted(both, 9090)) == 2)
    same("operators come in without monitoring", apps(admitted(by_token, 9443)), ["console"])
    same("without peers nobody reaches operators' port", admitted(by_certificates, 9443), [])
    same("by default: monitoring and the test come in", len(admitted(render(), 9090)), 2)
    for title, resources, expected in (("with operators", both, 1), ("by default", render(), 0)):
        found = [item for item in of_kind(resources, "Service") if item["metadata"]["name"].endswith("-operators")]
        same(f"{title}: a Service of their own", len(found), expected)
    (monitor,) = of_kind(both, "ServiceMonitor")
    (service,) = [item for item in of_kind(both, "Service") if item["metadata"]["name"].endswith("-operators")]
    check("Prometheus does not find operators' Service", not matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]))


def settings() -> None:
    """A changed setting replaces the pods, a changed number of replicas does not."""
    checksum = lambda *args: of_kind(render(*args), "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    check("another setting is another checksum", checksum() != checksum("--set", "log.level=debug"))
    same("more replicas are the same checksum", checksum("--set", "replicaCount=3"), checksum())
