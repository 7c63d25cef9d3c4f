{{/* What all pods have in common; each takes (list context) or a dict that it names. */}}

{{- define "pathcast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pathcast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* How pods are started. Without enableServiceLinks: false, Kubernetes would set variables such as PATHCAST_MAP_PORT for our
own services, and PATHCAST_ is how our options are set. Nothing here speaks to Kubernetes, so no pod gets a token. */}}
{{- define "pathcast.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "pathcast.podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that are mounted, as a dict of a name and what of it, from (dict "root" context "redis" bool "token" dict
"schemas" dict). */}}
{{- define "pathcast.secrets" -}}
{{- $v := .root.Values }}
kafka-password: {{ toJson $v.kafka.passwordSecret }}
kafka-ca: {{ toJson $v.kafka.caSecret }}
metrics-token: {{ toJson $v.monitoring.tokenSecret }}
{{- if .redis }}
redis-password: {{ toJson $v.redis.passwordSecret }}
redis-ca: {{ toJson $v.redis.caSecret }}
{{- end }}
{{- with .token }}
token: {{ toJson . }}
{{- end }}
{{- with .schemas }}
schemas-password: {{ toJson .passwordSecret }}
schemas-ca: {{ toJson .caSecret }}
{{- end }}
{{- end }}

{{- define "pathcast.secretVolumes" -}}
{{- range $name, $secret := include "pathcast.secrets" . | fromYaml }}
{{- if $secret.name }}
- name: {{ $name }}
  secret: {secretName: {{ $secret.name }}, items: [{key: {{ $secret.key }}, path: value}], defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{- define "pathcast.secretMounts" -}}
{{- range $name, $secret := include "pathcast.secrets" . | fromYaml }}
{{- if $secret.name }}
- {name: {{ $name }}, mountPath: /etc/pathcast/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* The variables of every process. Secrets are files: an environment is seen by more people. */}}
{{- define "pathcast.environment" -}}
{{- $v := .root.Values }}
- {name: PATHCAST_BOOTSTRAP, value: {{ $v.kafka.bootstrap | quote }}}
- {name: PATHCAST_PREFIX, value: {{ $v.prefix | quote }}}
- {name: PATHCAST_KAFKA_SECURITY, value: {{ $v.kafka.security }}}
{{- if $v.kafka.user }}
- {name: PATHCAST_KAFKA_MECHANISM, value: {{ $v.kafka.mechanism }}}
- {name: PATHCAST_KAFKA_USER, value: {{ $v.kafka.user | quote }}}
{{- end }}
{{- if $v.kafka.passwordSecret.name }}
- {name: PATHCAST_KAFKA_PASSWORD_FILE, value: /etc/pathcast/kafka-password/value}
{{- end }}
{{- if $v.kafka.caSecret.name }}
- {name: PATHCAST_KAFKA_CA, value: /etc/pathcast/kafka-ca/value}
{{- end }}
{{- if .redis }}
- {name: PATHCAST_REDIS, value: {{ $v.redis.url | quote }}}
{{- if $v.redis.passwordSecret.name }}
- {name: PATHCAST_REDIS_PASSWORD_FILE, value: /etc/pathcast/redis-password/value}
{{- end }}
{{- if $v.redis.caSecret.name }}
- {name: PATHCAST_REDIS_CA, value: /etc/pathcast/redis-ca/value}
{{- end }}
{{- end }}
{{- if $v.monitoring.tokenSecret.name }}
- {name: PATHCAST_METRICS_TOKEN_FILE, value: /etc/pathcast/metrics-token/value}
{{- end }}
{{- if and .tokenVariable .token .token.name }}
- {name: {{ .tokenVariable }}, value: /etc/pathcast/token/value}
{{- end }}
{{- with .schemas }}
- {name: PATHCAST_SCHEMA_REGISTRY, value: {{ .url | quote }}}
{{- if .user }}
- {name: PATHCAST_SCHEMA_REGISTRY_USER, value: {{ .user | quote }}}
{{- end }}
{{- if .passwordSecret.name }}
- {name: PATHCAST_SCHEMA_REGISTRY_PASSWORD_FILE, value: /etc/pathcast/schemas-password/value}
{{- end }}
{{- if .caSecret.name }}
- {name: PATHCAST_SCHEMA_REGISTRY_CA, value: /etc/pathcast/schemas-ca/value}
{{- end }}
{{- end }}
- {name: NUMBA_CACHE_DIR, value: /var/lib/pathcast/kernels}
{{- end }}

{{/* Credentials of an object store, where one is named. */}}
{{- define "pathcast.credentials" -}}
{{- with .Values.versions.credentialsSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Volumes of claims, from (list context names). */}}
{{- define "pathcast.claimVolumes" -}}
{{- $root := index . 0 }}
{{- range index . 1 }}
{{- $claim := index $root.Values.storage . }}
{{- if $claim.enabled }}
- name: {{ . }}
  persistentVolumeClaim: {claimName: {{ $claim.existingClaim | default (printf "%s-%s" (include "pathcast.fullname" $root) .) }}}
{{- end }}
{{- end }}
{{- end }}

{{/* A page as a probe, from (list path port period failures). */}}
{{- define "pathcast.probe" -}}
httpGet: {path: {{ index . 0 }}, port: {{ index . 1 }}}
periodSeconds: {{ index . 2 }}
failureThreshold: {{ index . 3 }}
timeoutSeconds: 5
{{- end }}
