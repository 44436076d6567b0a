{{/* The strictest of the Pod Security Standards, and no values that weaken it. */}}
{{- define "vault.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.runAsUser) }}
runAsUser: {{ int .Values.runAsUser }}
runAsGroup: {{ int .Values.runAsUser }}
fsGroup: {{ int .Values.runAsUser }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "vault.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "vault.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "vault.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Secrets are files: an environment is inherited, and shown by more tools. */}}
{{- define "vault.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ index . 0 }}
    defaultMode: 0440
    items:
      - key: {{ index . 1 }}
        path: url
{{- end }}

{{- define "vault.databaseCaVolume" -}}
{{- with .Values.database.ca }}
{{- if .configMap }}
- name: database-ca
  configMap:
    name: {{ .configMap }}
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vault.databaseMounts" -}}
- name: database
  mountPath: /etc/grantex-vault/database
  readOnly: true
{{- if .Values.database.ca.configMap }}
- name: database-ca
  mountPath: /etc/grantex-vault/database-ca
  readOnly: true
{{- end }}
{{- end }}
