{{/* What the Secret holds because no value says it: the setting's name is the key. A pod whose Secret lacks one does not
start, and its events name the key. Files, because an environment is inherited and shown by more tools. */}}
{{- define "vault.fromSecret" -}}
names:
{{- if not (include "vault.masterKey" .) }}
  - GRANTEX_VAULT_MASTER_KEY
{{- end }}
{{- if not .Values.issuer }}
  - GRANTEX_VAULT_ISSUER
{{- end }}
{{- end }}

{{/* The environment of `serve` beside the ConfigMap. */}}
{{- define "vault.serverEnv" -}}
- name: DATABASE_URL_FILE
  value: /etc/grantex-vault/database/url
{{- range (include "vault.fromSecret" . | fromYaml).names }}
- name: {{ . }}_FILE
  value: /etc/grantex-vault/settings/{{ . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A certificate and its key. Called with (list volume secret). */}}
{{- define "vault.certificateVolume" }}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}

{{/* The CA of those who come with certificates; nothing when there is none. Called with (list volume clientCA). */}}
{{- define "vault.clientCaVolume" }}
{{- $volume := index . 0 }}
{{- with index . 1 }}
{{- if or .existingSecret .existingConfigMap }}
- name: {{ $volume }}
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

{{/* No subPath anywhere: a file that is mounted by one never changes, and certificates, CAs, key sets, keyrings and the
operators' token are read again when they do. */}}
{{- define "vault.serverVolumes" -}}
{{- include "vault.databaseVolume" (list .Values.existingSecret .Values.database.secretKey) }}
{{- include "vault.databaseCaVolume" . }}
{{- with (include "vault.fromSecret" . | fromYaml).names }}
- name: settings
  secret:
    secretName: {{ $.Values.existingSecret }}
    defaultMode: 0440
    items:
      {{- range . }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
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
{{- include "vault.certificateVolume" (list "tls" (include "vault.tlsSecret" .)) }}
{{- include "vault.clientCaVolume" (list "client-ca" .Values.tls.clientCA) }}
{{- end }}
{{- with .Values.operators }}
{{- if .token.existingSecret }}
- name: operators-token
  secret:
    secretName: {{ .token.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .token.key }}
        path: {{ .token.key }}
{{- end }}
{{- with include "vault.operatorsTlsSecret" $ }}
{{- include "vault.certificateVolume" (list "operators-tls" .) }}
{{- end }}
{{- include "vault.clientCaVolume" (list "operators-client-ca" .tls.clientCA) }}
{{- end }}
{{- with include "vault.adminTlsSecret" . }}
{{- include "vault.certificateVolume" (list "admin-tls" .) }}
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
{{- if (include "vault.fromSecret" . | fromYaml).names }}
- name: settings
  mountPath: /etc/grantex-vault/settings
  readOnly: true
{{- end }}
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
{{- with .Values.operators }}
{{- if .token.existingSecret }}
- name: operators-token
  mountPath: /etc/grantex-vault/operators-token
  readOnly: true
{{- end }}
{{- if include "vault.operatorsTlsSecret" $ }}
- name: operators-tls
  mountPath: /etc/grantex-vault/operators-tls
  readOnly: true
{{- end }}
{{- if include "vault.hasOperatorsCa" $ }}
- name: operators-client-ca
  mountPath: /etc/grantex-vault/operators-client-ca
  readOnly: true
{{- end }}
{{- end }}
{{- if include "vault.adminTlsSecret" . }}
- name: admin-tls
  mountPath: /etc/grantex-vault/admin-tls
  readOnly: true
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

{{/* What a probe asks. The kubelet verifies no certificate. Called with (list root path). */}}
{{- define "vault.adminGet" -}}
path: {{ index . 1 }}
port: admin
{{- if include "vault.adminTlsSecret" (index . 0) }}
scheme: HTTPS
{{- end }}
{{- end }}
