{{- define "statecast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "statecast.fullname" -}}
{{- $name := include "statecast.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "statecast.release" -}}
app.kubernetes.io/name: {{ include "statecast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "statecast.selector" -}}
{{ include "statecast.release" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "statecast.common" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "statecast.labels" -}}
{{ include "statecast.selector" . }}
{{ include "statecast.common" . }}
{{- end -}}

{{- define "statecast.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "statecast.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "statecast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The fewest replicas that there should be. */}}
{{- define "statecast.replicas" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas .Values.replicaCount -}}
{{- end -}}

{{/* A quantity of memory such as 1.5Gi, in bytes. */}}
{{- define "statecast.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" . -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number .)) | int64 -}}
{{- end -}}

{{/* More than preStop, drain, grace, and the 15 s that engine and Redis may take after them. */}}
{{- define "statecast.terminationSeconds" -}}
{{- $times := .Values.shutdown -}}
{{- addf $times.preStopSeconds $times.drainSeconds $times.graceSeconds 15 5 | ceil | int64 -}}
{{- end -}}

{{/* Not empty if callers, and readers of the metrics, must say who they are. */}}
{{- define "statecast.needsCredentials" -}}
{{- or .Values.apiKeys.secret .Values.settings.jwt_keys .Values.settings.tls_subjects | default "" -}}
{{- end -}}

{{/* Values that are right alone but not together. */}}
{{- define "statecast.check" -}}
{{- $redis := .Values.redis -}}
{{- if and (not $redis.urlSecret.name) (not (regexMatch "^rediss?([+][a-z]+)?://[^ /]+" $redis.url)) -}}
{{- fail (printf "redis.url: %q is not the URL of a Redis; write redis://host:6379/0, or rediss://host:6379/0 for TLS" $redis.url) -}}
{{- end -}}
{{- if regexMatch "^[a-z+]+://[^/@]*:[^/@]+@" $redis.url -}}
{{- fail "redis.url: holds a password, which everyone who may read the Deployment would see; leave it out and name a Secret in redis.passwordSecret.name" -}}
{{- end -}}
{{- if and (or $redis.tls.caSecret.name $redis.tls.clientSecret) (not $redis.urlSecret.name) (not (hasPrefix "rediss" $redis.url)) -}}
{{- fail (printf "redis.tls: is of no use with redis.url %s, which is without TLS; write rediss:// instead of redis://" $redis.url) -}}
{{- end -}}
{{- if and $redis.urlSecret.name $redis.passwordSecret.name -}}
{{- fail "redis.passwordSecret: the URL in redis.urlSecret may hold a password as well; put it there and leave out redis.passwordSecret, or use redis.url" -}}
{{- end -}}
{{- if and .Values.models.persistentVolumeClaim .Values.models.init.image -}}
{{- fail "models: persistentVolumeClaim and init.image both fill /models; choose one" -}}
{{- end -}}
{{- if and .Values.models.init.command (not .Values.models.init.image) -}}
{{- fail "models.init.command: needs models.init.image, the image to run it in" -}}
{{- end -}}
{{- if and .Values.tls.requireClientCertificate (not .Values.tls.secret) -}}
{{- fail "tls.requireClientCertificate: needs tls.secret, a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and .Values.tls.secret .Values.serviceMonitor.enabled (not .Values.tls.serverName) -}}
{{- fail "tls.serverName: is empty, but Prometheus (serviceMonitor.enabled) checks the certificate in tls.secret; set it to a name in that certificate" -}}
{{- end -}}
{{- if and (include "statecast.needsCredentials" .) .Values.serviceMonitor.enabled (not .Values.serviceMonitor.apiKeySecret.name) -}}
{{- fail "serviceMonitor.apiKeySecret.name: is empty, but readers of the metrics need a credential, as callers do; name a Secret with an API key of the role admin" -}}
{{- end -}}
{{- $scaling := .Values.autoscaling -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas: %d is more than maxReplicas %d; lower it or raise the other" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
