{{/* One egress rule. Called with (list allowance protocols); no peers is anywhere, no ports is nothing. */}}
{{- define "vault.egressRule" -}}
{{- $protocols := index . 1 -}}
{{- with index . 0 -}}
- ports:
    {{- range $port := .ports }}
    {{- range $protocol := $protocols }}
    - port: {{ $port }}
      protocol: {{ $protocol }}
    {{- end }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Addresses of DNS servers on the pod's own node, as a JSON array. AKS has one for pods and one for nodes; GKE's second
is that of Cloud DNS, which at other ports is the metadata server. */}}
{{- define "vault.nodeLocalDns" -}}
{{- $named := .Values.networkPolicy.egress.dns.nodeLocal -}}
{{- if not (kindIs "invalid" $named) -}}
{{- toJson $named -}}
{{- else if eq .Values.platform "eks" -}}
["169.254.20.10"]
{{- else if eq .Values.platform "gke" -}}
["169.254.20.10","169.254.169.254"]
{{- else if eq .Values.platform "aks" -}}
["169.254.10.10","169.254.10.11"]
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* The whole block of an address. */}}
{{- define "vault.addressBlock" -}}
{{- . }}/{{ ternary 128 32 (contains ":" .) }}
{{- end }}

{{/* Everything that pods ask for names. */}}
{{- define "vault.dnsEgress" -}}
{{- $dns := .Values.networkPolicy.egress.dns -}}
{{- $protocols := list "UDP" "TCP" -}}
{{- include "vault.egressRule" (list $dns $protocols) }}
{{- with include "vault.nodeLocalDns" . | fromJsonArray }}
{{- $peers := list }}
{{- range . }}
{{- $peers = append $peers (dict "ipBlock" (dict "cidr" (include "vault.addressBlock" .))) }}
{{- end }}
{{ include "vault.egressRule" (list (dict "ports" (list 53) "to" $peers) $protocols) }}
{{- end }}
{{- if ternary (eq .Values.platform "openshift") $dns.openshift (kindIs "invalid" $dns.openshift) }}
{{- $openshift := dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" "openshift-dns")) }}
{{ include "vault.egressRule" (list (dict "ports" (list 5353) "to" (list $openshift)) $protocols) }}
{{- end }}
{{- end }}

{{/* Whether pods ask the agent of EKS Pod Identity for credentials. */}}
{{- define "vault.asksPodIdentity" -}}
{{- $named := .Values.networkPolicy.egress.podIdentity -}}
{{- $hasRole := or .Values.aws.webIdentity.roleArn (hasKey .Values.serviceAccount.annotations "eks.amazonaws.com/role-arn") -}}
{{- if kindIs "invalid" $named -}}
{{- if and (eq .Values.platform "eks") (include "vault.callsKms" .) (not $hasRole) }}yes{{ end -}}
{{- else if $named -}}
yes
{{- end -}}
{{- end }}

{{/*
An allowance with the peers that its provider's URL names when no others are given: the namespace of a host in the
cluster, an address, else the public addresses, which leaves out other pods, the Kubernetes API and the metadata server.
A name of two labels is one of the cluster in an http URL only: there it is a Service and its namespace.
Called with (list allowance url).
*/}}
{{- define "vault.narrowed" -}}
{{- $allowance := index . 0 -}}
{{- $host := regexReplaceAll ":[0-9]+$" (urlParse (index . 1)).host "" -}}
{{- $labels := splitList "." $host -}}
ports:
  {{- toYaml $allowance.ports | nindent 2 }}
to:
{{- if $allowance.to }}
  {{- toYaml $allowance.to | nindent 2 }}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host }}
  - ipBlock:
      cidr: {{ $host }}/32
{{- else if regexMatch "^\\[[0-9a-fA-F:]+\\]$" $host }}
  - ipBlock:
      cidr: {{ $host | trimPrefix "[" | trimSuffix "]" }}/128
{{- else if and $host (eq (len $labels) 1) }}
  - podSelector: {}
{{- else if or (and (gt (len $labels) 2) (eq (index $labels 2) "svc")) (and (eq (len $labels) 2) (hasPrefix "http://" (index . 1))) }}
  - namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ index $labels 1 }}
{{- else }}
  - ipBlock:
      cidr: 0.0.0.0/0
      except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
  - ipBlock:
      cidr: ::/0
      except: [fc00::/7, fe80::/10]
{{- end }}
{{- end }}

{{/* Whether any master key may be in AWS; an empty one is named by the Secret. */}}
{{- define "vault.callsKms" -}}
{{- range $key := prepend .Values.oldMasterKeys (include "vault.masterKey" .) }}
{{- if or (not $key) (hasPrefix "aws-kms:" $key) }}yes{{ end }}
{{- end }}
{{- end }}
