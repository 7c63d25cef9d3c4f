{{/*
What runs beside the workers: a table of which command, which image, what it reads and writes. A new service is one more
entry here, and its switch in values.yaml.

    image     the target of deploy/Dockerfile
    args      of pathcast
    redis     whether it reads Redis
    claims    claims that it mounts: true for writing
    pages     the port of its probes and metrics
    schemas   whether it asks a registry of schemas
    port      where clients come in, if that is another one than `pages`
    clients   whether clients come in
    token     the variable with the file of the clients' token
    ownToken  whether its metrics want that token, and not the one of all metrics
    single    whether two of it must not run side by side: the old pod ends before the new one begins
*/}}
{{- define "pathcast.parts" -}}
{{- $registry := include "pathcast.registry" . }}
{{- $archive := include "pathcast.archive" . }}
{{- $versions := concat (ternary (list "--atlases=/var/lib/pathcast/atlases") list .Values.storage.atlases.enabled)
                        (ternary (list (printf "--registry=%s" $registry)) list (ne $registry "")) }}
atlas:
  image: worker
  args: [beside, atlas, --atlases=/var/lib/pathcast/atlases, --metrics=0.0.0.0:9496]
  redis: true
  claims: {atlases: true}
  pages: 9496
  single: true
archive:
  image: tools
  args: [beside, archive, {{ printf "--archive=%s" $archive | quote }}, --metrics=0.0.0.0:9497]
  claims: {archive: true}
  pages: 9497
  single: true
scores:
  image: tools
  args: [beside, scores, --metrics=0.0.0.0:9464]
  pages: 9464
guard:
  image: worker
  args: [beside, guard, {{ printf "--registry=%s" $registry | quote }}, --metrics=0.0.0.0:9498]
  claims: {registry: true}
  pages: 9498
  single: true
refresh:
  image: trainer
  args:
    - train
    - refresh
    - {{ printf "--every=%s" .Values.parts.refresh.every | quote }}
    - {{ printf "--since=%s" .Values.parts.refresh.since | quote }}
    - {{ printf "--registry=%s" $registry | quote }}
    - --dir=/var/lib/pathcast/refresh
    - --metrics=0.0.0.0:9499
    {{- with $archive }}
    - {{ printf "--archive=%s" . | quote }}
    {{- end }}
  claims: {registry: true, archive: false}
  pages: 9499
  single: true
latest:
  image: worker
  args: [beside, latest, --metrics=0.0.0.0:9464]
  pages: 9464
arrivals:
  image: worker
  args:
    - beside
    - arrivals
    - --metrics=0.0.0.0:9464
    {{- with .Values.parts.arrivals.history }}
    - {{ printf "--history=%s" . | quote }}
    {{- end }}
  pages: 9464
avro:
  image: tools
  args: [beside, avro, --metrics=0.0.0.0:9464]
  pages: 9464
  schemas: true
serve:
  image: worker
  args: {{ concat (list "serve" "--listen=0.0.0.0:9480" (printf "--group=%s" .Values.prefix) (printf "--weights=%s" .Values.workers.weights)) $versions | toJson }}
  redis: true
  claims: {atlases: false, registry: false}
  pages: 9480
  clients: true
  token: PATHCAST_SERVE_TOKEN_FILE
  ownToken: true
map:
  image: worker
  args: {{ concat (list "map" "--listen=0.0.0.0:8765") (ternary (list "--atlases=/var/lib/pathcast/atlases") list .Values.storage.atlases.enabled) | toJson }}
  claims: {atlases: false}
  pages: 8765
  clients: true
  token: PATHCAST_MAP_TOKEN_FILE
  ownToken: true
ingest:
  image: tools
  args:
    - ingest
    - http
    - --listen=0.0.0.0:8080
    - --metrics=0.0.0.0:9464
    {{- range .Values.parts.ingest.maps }}
    - {{ printf "--map=%s" . | quote }}
    {{- end }}
  pages: 9464
  port: 8080
  clients: true
  token: PATHCAST_INGEST_TOKEN_FILE
{{- end }}

{{/* Refuses values that cannot work together, in one line that says what to do. */}}
{{- define "pathcast.check" -}}
{{- $registry := include "pathcast.registry" . }}
{{- $parts := .Values.parts }}
{{- if and $parts.atlas.enabled (not .Values.storage.atlases.enabled) }}
{{- fail "parts.atlas.enabled needs storage.atlases.enabled: workers and atlas share that claim" }}
{{- end }}
{{- if and (or $parts.guard.enabled $parts.refresh.enabled) (eq $registry "") }}
{{- fail "parts.guard and parts.refresh need a registry: versions.registry (a URL) or storage.registry.enabled" }}
{{- end }}
{{- if and $parts.guard.enabled (not $parts.scores.enabled) }}
{{- fail "parts.guard.enabled needs parts.scores.enabled: it judges by live scores" }}
{{- end }}
{{- if and $parts.avro.enabled (not $parts.avro.schemaRegistry.url) }}
{{- fail "parts.avro.enabled needs parts.avro.schemaRegistry.url: a reader of Avro asks there for the schema" }}
{{- end }}
{{- if and $parts.archive.enabled (eq (include "pathcast.archive" .) "") }}
{{- fail "parts.archive.enabled needs versions.archive (a URL) or storage.archive.enabled" }}
{{- end }}
{{- if and $parts.ingest.enabled (not $parts.ingest.tokenSecret.name) }}
{{- fail "parts.ingest.enabled needs parts.ingest.tokenSecret.name: without a token it takes pings from nobody" }}
{{- end }}
{{- end }}
