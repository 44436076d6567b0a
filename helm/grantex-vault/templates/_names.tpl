{{- define "vault.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* Short enough for the longest suffix that the chart adds. */}}
{{- define "vault.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains (include "vault.name" .) .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vault.name" .) | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "vault.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "vault.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "vault.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* What selects pods never changes with the version. Called with (list root component). */}}
{{- define "vault.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "vault.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Without the chart's version, which alone must not replace pods. Called with (list root component). */}}
{{- define "vault.podLabels" -}}
{{- with (index . 0).Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{- include "vault.selectorLabels" . }}
{{- end }}

{{/* Called with (list root component). */}}
{{- define "vault.labels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "vault.selectorLabels" . }}
app.kubernetes.io/version: {{ default $root.Chart.AppVersion $root.Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/* Where the Secret that names the certificate is; the chart's Certificate writes it, or you made it. */}}
{{- define "vault.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- printf "%s-tls" (include "vault.fullname" .) -}}
{{- else -}}
{{- .Values.tls.existingSecret -}}
{{- end -}}
{{- end }}

{{/* The same of the admin port; empty: it speaks in clear. */}}
{{- define "vault.adminTlsSecret" -}}
{{- if .Values.admin.tls.certManager.enabled -}}
{{- printf "%s-admin-tls" (include "vault.fullname" .) -}}
{{- else -}}
{{- .Values.admin.tls.existingSecret -}}
{{- end -}}
{{- end }}

{{/* The same of the operators' port, which has one whenever there are operators. */}}
{{- define "vault.operatorsTlsSecret" -}}
{{- if .Values.operators.tls.certManager.enabled -}}
{{- printf "%s-operators-tls" (include "vault.fullname" .) -}}
{{- else -}}
{{- .Values.operators.tls.existingSecret -}}
{{- end -}}
{{- end }}
