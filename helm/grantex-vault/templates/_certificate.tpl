{{/* The spec of a Certificate. Called with (list root certManager secret services). */}}
{{- define "vault.certificateSpec" -}}
{{- $root := index . 0 -}}
{{- $certManager := index . 1 -}}
secretName: {{ index . 2 }}
issuerRef:
  {{- toYaml $certManager.issuerRef | nindent 2 }}
dnsNames:
  {{- range $service := index . 3 }}
  {{- $name := printf "%s-%s" (include "vault.fullname" $root) $service }}
  - {{ $name }}
  - {{ $name }}.{{ $root.Release.Namespace }}
  - {{ $name }}.{{ $root.Release.Namespace }}.svc
  - {{ $name }}.{{ $root.Release.Namespace }}.svc.cluster.local
  {{- end }}
  {{- with $certManager.dnsNames }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
duration: {{ $certManager.duration }}
renewBefore: {{ $certManager.renewBefore }}
usages: [digital signature, server auth]
privateKey:
  algorithm: ECDSA
  size: 256
  rotationPolicy: Always
{{- end }}
