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

{{/* Whether any master key may be in AWS; an empty one is named by the Secret. */}}
{{- define "vault.callsKms" -}}
{{- range $key := prepend .Values.oldMasterKeys (include "vault.masterKey" .) }}
{{- if or (not $key) (hasPrefix "aws-kms:" $key) }}yes{{ end }}
{{- end }}
{{- end }}
