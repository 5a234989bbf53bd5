{{- define "exporter.name" -}}
{{- tpl .Values.nameOverride . | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A Service's name begins with a letter, which a release's need not. */}}
{{- define "exporter.fullname" -}}
{{- $name := include "exporter.name" . }}
{{- $full := printf "%s-%s" .Release.Name $name }}
{{- if .Values.fullnameOverride }}
{{- $full = tpl .Values.fullnameOverride . }}
{{- else if regexMatch "^[0-9]" .Release.Name }}
{{- $full = printf "%s-%s" $name .Release.Name }}
{{- else if contains $name .Release.Name }}
{{- $full = .Release.Name }}
{{- end }}
{{- $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Of the StatefulSet and its Service: not those of the Deployment, so that an
upgrade from one to the other changes no field that cannot be changed, and at most
52 characters, because a label of the pods has 11 more. */}}
{{- define "exporter.shardName" -}}
{{- printf "%s-shard" (include "exporter.fullname" . | trunc 46 | trimSuffix "-") }}
{{- end }}

{{- define "exporter.namespace" -}}
{{- tpl .Values.namespaceOverride . | default .Release.Namespace }}
{{- end }}

{{- define "exporter.sharded" -}}
{{- gt (int .Values.shards) 1 | ternary "true" "" }}
{{- end }}

{{- /* (list CONTEXT VALUE): a value as YAML, with its templates rendered. */}}
{{- define "exporter.tpl" -}}
{{- tpl (toYaml (index . 1)) (index . 0) }}
{{- end }}

{{- /* (list CONTEXT MAP): the same for labels, whose values are strings, whatever
they look like. */}}
{{- define "exporter.strings" -}}
{{- $context := index . 0 }}
{{- $strings := dict }}
{{- range $key, $value := index . 1 }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $strings $key (tpl (toString $value) $context) }}
{{- end }}
{{- end }}
{{- toYaml $strings }}
{{- end }}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* (list CONTEXT MORE): the labels of an object, MORE among them. */}}
{{- define "exporter.labels" -}}
{{- $context := index . 0 }}
{{- $own := dict "app.kubernetes.io/managed-by" $context.Release.Service }}
{{- $_ := set $own "app.kubernetes.io/version" ($context.Chart.AppVersion | replace "+" "_" | trunc 63) }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $context.Chart.Name ($context.Chart.Version | replace "+" "_") | trunc 63 | trimSuffix "-") }}
{{- include "exporter.mergedLabels" (list $context (index . 1) $own) }}
{{- end }}

{{- /* (list CONTEXT MORE): the labels of the pods, which stay as they are when the
chart has a new version. */}}
{{- define "exporter.podLabels" -}}
{{- include "exporter.mergedLabels" (list (index . 0) (index . 1) dict) }}
{{- end }}

{{- /* (list CONTEXT MORE OWN): nothing replaces a label that a selector asks for. */}}
{{- define "exporter.mergedLabels" -}}
{{- $context := index . 0 }}
{{- $selector := include "exporter.selectorLabels" $context | fromYaml }}
{{- $more := include "exporter.strings" (list $context (index . 1)) | fromYaml }}
{{- $common := include "exporter.strings" (list $context $context.Values.commonLabels) | fromYaml }}
{{- merge $selector $more $common (index . 2) | toYaml }}
{{- end }}

{{- /* (list CONTEXT MAP): the key annotations, unless there are none. */}}
{{- define "exporter.annotations" -}}
{{- with index . 1 }}
annotations:
  {{- include "exporter.strings" (list (index $ 0) .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "exporter.secret" -}}
{{- $suffix := include "exporter.run" . | fromYaml | dig "accounts" false | ternary "-accounts" "" }}
{{- tpl .Values.existingSecret . | default (printf "%s%s" (include "exporter.fullname" .) $suffix) }}
{{- end }}

{{- define "exporter.serviceAccount" -}}
{{- tpl .Values.serviceAccount.name . | default (.Values.serviceAccount.create | ternary (include "exporter.fullname" .) "default") }}
{{- end }}

{{- define "exporter.image" -}}
{{- $registry := tpl (dig "imageRegistry" "" (.Values.global | default dict) | default .Values.image.registry) . }}
{{- with $registry }}{{ . }}/{{ end }}{{ tpl .Values.image.repository . }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ tpl (toString .Values.image.tag) . | default (.Chart.AppVersion | replace "+" "_") }}{{ end }}
{{- end }}

{{- /* How the program is run. What extraArgs and extraEnv say, the chart does not
say a second time: a flag cannot be repeated, and a secret that comes another way
needs no volume.

args         the chart's own flags
accounts     whether there is a file of accounts, and
configMap    whether it is the chart's
account      whether TWILIO_ACCOUNT_SID is to be set, and
apiKey       TWILIO_API_KEY
secretKey    the key of the Secret that is mounted for the one account, or
secrets      whether the whole Secret is
port, path   of the metrics
healthPort   of the listener for probes, if there is one
state        whether a volume for the state is mounted */}}
{{- define "exporter.run" -}}
{{- $flags := dict }}
{{- range include "exporter.tpl" (list . .Values.extraArgs) | fromYamlArray }}
{{- $parts := splitn "=" 2 . }}
{{- $_ := set $flags ($parts._0 | trimPrefix "--" | trimPrefix "no-") ($parts._1 | default "") }}
{{- end }}
{{- $env := dict }}
{{- range include "exporter.tpl" (list . .Values.extraEnv) | fromYamlArray }}
{{- $_ := set $env .name true }}
{{- end }}

{{- $args := list }}
{{- $run := dict "accounts" false "configMap" false "account" false "apiKey" false "secretKey" "" "secrets" false "healthPort" 0 "state" false }}
{{- $_ := set $run "path" (get $flags "web.telemetry-path" | default "/metrics") }}
{{- $_ := set $run "port" (get $flags "web.listen-address" | splitList ":" | last | default "9861" | int) }}
{{- $foreign := or .Values.twilio.fromEnvironment (hasKey $flags "demo") }}

{{- if or .Values.accounts .Values.configFile (hasKey $flags "config.file") }}
{{- $_ := set $run "accounts" true }}
{{- $file := get $flags "config.file" | default (tpl .Values.configFile .) }}
{{- if and .Values.accounts $file }}
{{- fail (printf "accounts and the file %s exclude each other: give one of them" $file) }}
{{- end }}
{{- $_ := set $run "configMap" (empty $file) }}
{{- $args = list (printf "--config.file=%s" ($file | default "/etc/twilio/config/accounts.yml")) "--config.auto-reload" }}
{{- $named := contains "/etc/twilio/secrets/" (toJson (list .Values.accounts $file .Values.extraArgs)) }}
{{- $_ := set $run "secrets" (or $named (not (empty .Values.existingSecret))) }}

{{- else if not $foreign }}
{{- $_ := set $run "account" (not (or (hasKey $flags "twilio.account-sid") (hasKey $env "TWILIO_ACCOUNT_SID"))) }}
{{- $keyGiven := or (hasKey $flags "twilio.api-key") (hasKey $env "TWILIO_API_KEY") }}
{{- $flag := "twilio.auth-token-file" }}
{{- $file := tpl .Values.twilio.authTokenFile . }}
{{- $key := "auth-token" }}
{{- $variable := "TWILIO_AUTH_TOKEN" }}
{{- if or .Values.twilio.apiKey $keyGiven }}
{{- $_ := set $run "apiKey" (not $keyGiven) }}
{{- $flag = "twilio.api-secret-file" }}
{{- $file = tpl .Values.twilio.apiSecretFile . }}
{{- $key = "api-secret" }}
{{- $variable = "TWILIO_API_SECRET" }}
{{- end }}
{{- if not (or (hasKey $flags $flag) (hasKey $env $variable)) }}
{{- if not $file }}
{{- $_ := set $run "secretKey" $key }}
{{- end }}
{{- $args = list (printf "--%s=%s" $flag ($file | default (printf "/etc/twilio/%s" $key))) }}
{{- end }}
{{- end }}

{{- if not (or (hasKey $flags "storage.path") (hasKey $flags "demo")) }}
{{- $_ := set $run "state" true }}
{{- $args = append $args "--storage.path=/var/lib/twilio_operations_exporter" }}
{{- end }}

{{- /* TLS or a password would keep the kubelet out. */}}
{{- if .Values.webConfig.existingSecret }}
{{- $args = append $args (printf "--web.config.file=/etc/twilio-web/%s" .Values.webConfig.key) }}
{{- end }}
{{- if hasKey $flags "web.health-listen-address" }}
{{- $_ := set $run "healthPort" (get $flags "web.health-listen-address" | splitList ":" | last | int) }}
{{- else if or .Values.webConfig.existingSecret (hasKey $flags "web.config.file") }}
{{- $_ := set $run "healthPort" (int .Values.webConfig.healthPort) }}
{{- $args = append $args (printf "--web.health-listen-address=:%d" (int .Values.webConfig.healthPort)) }}
{{- end }}

{{- $own := list }}
{{- range $args }}
{{- if not (hasKey $flags (splitList "=" . | first | trimPrefix "--")) }}
{{- $own = append $own . }}
{{- end }}
{{- end }}
{{- set $run "args" $own | toYaml }}
{{- end }}

{{- /* The spec of a claim. */}}
{{- define "exporter.claim" -}}
accessModes:
  {{- toYaml .Values.persistence.accessModes | nindent 2 }}
{{- with tpl .Values.persistence.storageClass . }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.persistence.size | quote }}
{{- end }}

{{- /* (list CONTEXT MONITOR): the endpoint of a ServiceMonitor or PodMonitor. */}}
{{- define "exporter.endpoint" -}}
{{- $context := index . 0 }}
{{- $monitor := index . 1 }}
{{- $endpoint := dict "port" "metrics" "path" (include "exporter.run" $context | fromYaml | dig "path" "") }}
{{- range $key := list "interval" "scrapeTimeout" "scheme" "tlsConfig" "basicAuth" "authorization" "metricRelabelings" }}
{{- with get $monitor $key }}
{{- $_ := set $endpoint $key . }}
{{- end }}
{{- end }}
{{- $_ := set $endpoint "honorLabels" $monitor.honorLabels }}
{{- $_ := set $endpoint "relabelings" (concat $monitor.baseRelabelings $monitor.relabelings) }}
{{- include "exporter.tpl" (list $context (mergeOverwrite $endpoint $monitor.endpoint)) }}
{{- end }}

{{- /* (list CONTEXT MONITOR KIND) */}}
{{- define "exporter.monitor" -}}
{{- $context := index . 0 }}
{{- $monitor := index . 1 }}
{{- $kind := index . 2 }}
apiVersion: monitoring.coreos.com/v1
kind: {{ $kind }}
metadata:
  name: {{ include "exporter.fullname" $context | quote }}
  namespace: {{ tpl $monitor.namespace $context | default (include "exporter.namespace" $context) | quote }}
  labels:
    {{- include "exporter.labels" (list $context $monitor.additionalLabels) | nindent 4 }}
  {{- include "exporter.annotations" (list $context $monitor.annotations) | nindent 2 }}
spec:
  {{- if $monitor.namespace }}
  namespaceSelector:
    matchNames:
      - {{ include "exporter.namespace" $context | quote }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "exporter.selectorLabels" $context | nindent 6 }}
  {{ eq $kind "PodMonitor" | ternary "podMetricsEndpoints" "endpoints" }}:
    -
      {{- include "exporter.endpoint" (list $context $monitor) | nindent 6 }}
  {{- with $monitor.spec }}
  {{- include "exporter.tpl" (list $context .) | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* (list PROBE PATH PORT): a probe, over HTTP unless another kind is given. */}}
{{- define "exporter.probe" -}}
{{- $probe := deepCopy (index . 0) }}
{{- if not (or (hasKey $probe "exec") (hasKey $probe "tcpSocket") (hasKey $probe "grpc")) }}
{{- $get := dict "path" (index . 1) "port" (index . 2) }}
{{- $_ := set $probe "httpGet" (mergeOverwrite $get ($probe.httpGet | default dict)) }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
