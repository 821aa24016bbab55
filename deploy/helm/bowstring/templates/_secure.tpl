{{/* All that TLS, tokens and their absence mean for the pod: environment, mounts, volumes. */}}
{{- define "bowstring.secure.check" -}}
{{- if and (not .Values.tls.secretName) (not .Values.insecure) }}
{{- fail "tls.secretName is not set: name a kubernetes.io/tls secret, or say insecure=true: then everybody who reaches the port may do everything" }}
{{- end }}
{{- if and (not .Values.auth.tokensSecretName) (not .Values.tls.clientCaSecretName) (not .Values.insecure) }}
{{- fail "neither auth.tokensSecretName nor tls.clientCaSecretName is set: name one, or say insecure=true: then everybody who reaches the port may do everything" }}
{{- end }}
{{- if and .Values.tls.clientCaSecretName (not .Values.tls.secretName) }}
{{- fail "tls.clientCaSecretName needs tls.secretName: clients' certificates are asked for within TLS" }}
{{- end }}
{{- end }}

{{- define "bowstring.secure.env" -}}
{{- if .Values.tls.secretName }}
- { name: BOWSTRING_TLS_CERT, value: /secrets/tls/tls.crt }
- { name: BOWSTRING_TLS_KEY, value: /secrets/tls/tls.key }
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- { name: BOWSTRING_TLS_CLIENT_CA, value: /secrets/client-ca/ca.crt }
{{- end }}
{{- if .Values.auth.tokensSecretName }}
- { name: BOWSTRING_AUTH_TOKENS, value: /secrets/auth/tokens }
{{- end }}
{{- end }}

{{- define "bowstring.secure.arguments" -}}
{{- if .Values.insecure }}
- --insecure
{{- end }}
{{- end }}

{{- define "bowstring.secure.mounts" -}}
{{- if .Values.tls.secretName }}
- { name: tls, mountPath: /secrets/tls, readOnly: true }
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- { name: client-ca, mountPath: /secrets/client-ca, readOnly: true }
{{- end }}
{{- if .Values.auth.tokensSecretName }}
- { name: auth, mountPath: /secrets/auth, readOnly: true }
{{- end }}
{{- end }}

{{- define "bowstring.secure.volumes" -}}
{{- if .Values.tls.secretName }}
- name: tls
  secret: { secretName: {{ .Values.tls.secretName | quote }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- name: client-ca
  secret: { secretName: {{ .Values.tls.clientCaSecretName | quote }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.auth.tokensSecretName }}
- name: auth
  secret: { secretName: {{ .Values.auth.tokensSecretName | quote }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{/* HTTP's port speaks TLS where the other does; probes need no client certificate. */}}
{{- define "bowstring.secure.scheme" -}}
{{- if .Values.tls.secretName }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}
