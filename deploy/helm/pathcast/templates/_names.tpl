{{- define "pathcast.fullname" -}}
{{- if contains "pathcast" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-pathcast" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The labels of what is selected, from (list context component). */}}
{{- define "pathcast.selector" -}}
app.kubernetes.io/name: pathcast
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels, from (list context component). */}}
{{- define "pathcast.labels" -}}
{{ include "pathcast.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image of deploy/Dockerfile, from (list context target). */}}
{{- define "pathcast.image" -}}
{{- $image := (index . 0).Values.image }}
{{- $digest := index $image.digests (index . 1) }}
{{- if $digest }}{{ $image.repository }}@{{ $digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}-{{ index . 1 }}{{ end }}
{{- end }}

{{/* Where versions lie, and pings: a URL, the folder of a claim, or nothing. */}}
{{- define "pathcast.registry" -}}
{{- if .Values.versions.registry }}{{ .Values.versions.registry }}
{{- else if .Values.storage.registry.enabled }}/var/lib/pathcast/registry{{ end }}
{{- end }}
{{- define "pathcast.archive" -}}
{{- if .Values.versions.archive }}{{ .Values.versions.archive }}
{{- else if .Values.storage.archive.enabled }}/var/lib/pathcast/archive{{ end }}
{{- end }}
