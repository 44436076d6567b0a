{{/* The environment of `serve` beside the ConfigMap. What is not in the values is a key of the Secret; a pod whose
Secret lacks it does not start, and its events name the key. */}}
{{- define "vault.serverEnv" -}}
- name: DATABASE_URL_FILE
  value: /etc/grantex-vault/database/url
{{- if not (include "vault.masterKey" .) }}
- name: GRANTEX_VAULT_MASTER_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.existingSecret }}
      key: GRANTEX_VAULT_MASTER_KEY
{{- end }}
{{- if not .Values.issuer }}
- name: GRANTEX_VAULT_ISSUER
  valueFrom:
    secretKeyRef:
      name: {{ .Values.existingSecret }}
      key: GRANTEX_VAULT_ISSUER
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* No subPath anywhere: a file that is mounted by one never changes, and certificates, CAs, key sets and keyrings are
read again when they do. */}}
{{- define "vault.serverVolumes" -}}
{{- include "vault.databaseVolume" (list .Values.existingSecret .Values.database.secretKey) }}
{{- include "vault.databaseCaVolume" . }}
{{- with .Values.localKeyring }}
{{- if .existingSecret }}
- name: keyring
  secret:
    secretName: {{ .existingSecret }}
    # A keyring that others than user and group can read is refused.
    defaultMode: 0440
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.jwks }}
{{- if .configMap }}
- name: jwks
  configMap:
    name: {{ .configMap }}
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "vault.tlsSecret" . }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- with .Values.tls.clientCA }}
{{- if or .existingSecret .existingConfigMap }}
- name: client-ca
  {{- if .existingSecret }}
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ .existingConfigMap }}
  {{- end }}
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.aws.webIdentity }}
{{- if .roleArn }}
- name: aws-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ .audience }}
          expirationSeconds: {{ .expirationSeconds }}
          path: token
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "vault.serverMounts" -}}
{{- include "vault.databaseMounts" . }}
{{- if .Values.localKeyring.existingSecret }}
- name: keyring
  mountPath: /etc/grantex-vault/keyring
  readOnly: true
{{- end }}
{{- if .Values.jwks.configMap }}
- name: jwks
  mountPath: /etc/grantex-vault/jwks
  readOnly: true
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /etc/grantex-vault/tls
  readOnly: true
{{- if or .Values.tls.clientCA.existingSecret .Values.tls.clientCA.existingConfigMap }}
- name: client-ca
  mountPath: /etc/grantex-vault/client-ca
  readOnly: true
{{- end }}
{{- end }}
{{- if .Values.aws.webIdentity.roleArn }}
- name: aws-token
  mountPath: /var/run/secrets/grantex-vault/aws
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
