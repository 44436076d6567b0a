{{/*
The annotations of a migration hook: Helm's and, for Argo CD, its own. A pre-install hook sees nothing of the release,
so the Job's service account, settings and network policy are hooks too, of a lower weight. Helm deletes them when
every hook has succeeded; after a failure they stay, to be looked at. Argo CD only replaces them: it may take a
service account for finished while the Job still needs it.
Called with (list weight argoDeletePolicy).
*/}}
{{- define "vault.migrationHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ index . 0 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
argocd.argoproj.io/hook: PreSync
argocd.argoproj.io/sync-wave: {{ index . 0 | quote }}
argocd.argoproj.io/hook-delete-policy: {{ index . 1 }}
{{- end }}
