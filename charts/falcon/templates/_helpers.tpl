{{- define "falcon.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* The first part of every name; short enough for what follows it. */ -}}
{{- define "falcon.fullname" -}}
{{- $name := include "falcon.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "falcon.selector" -}}
app.kubernetes.io/name: {{ include "falcon.name" . }}-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "falcon.ownLabels" -}}
{{ include "falcon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: falcon
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "falcon.labels" -}}
{{ merge (include "falcon.ownLabels" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{- /* Metadata of an object: (dict "top" $ "name" NAME), with "namespace" ("" for none), "labels" and "annotations"
of its own where it has them. */ -}}
{{- define "falcon.metadata" -}}
name: {{ .name }}
{{- with hasKey . "namespace" | ternary .namespace .top.Release.Namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- merge (dict) (.labels | default dict) (include "falcon.labels" .top | fromYaml) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .top.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* registry/repository:tag or @digest: (list $ IMAGE) */ -}}
{{- define "falcon.image" -}}
{{- $image := index . 1 -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "falcon.operator" -}}
{{ include "falcon.fullname" . }}-operator
{{- end }}

{{- define "falcon.cacheRole" -}}
{{ .Values.cacheRole | default (printf "%s-cache" (include "falcon.fullname" .)) }}
{{- end }}

{{- define "falcon.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "falcon.operator" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* Whether the cluster's API is known and does not have FalconCaches (yet). Rendering without a cluster is never
so: only a real API server lists apiregistration.k8s.io. */ -}}
{{- define "falcon.unknownKind" -}}
{{- if and (.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1") (not (.Capabilities.APIVersions.Has "falconcache.io/v1alpha1")) }}yes{{ end }}
{{- end }}

{{- /* The operator's permissions in a namespace that it watches. */ -}}
{{- define "falcon.operatorRules" -}}
- apiGroups: [falconcache.io]
  resources: [falconcaches]
  verbs: [get, list, watch]
- apiGroups: [falconcache.io]
  resources: [falconcaches/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# It may bind the cache pods' role, and no other.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [{{ ternary "roles" "clusterroles" (gt (len .Values.watchNamespaces) 0) }}]
  resourceNames: [{{ include "falcon.cacheRole" . }}]
  verbs: [bind]
# A cache's peer token is created once and never read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# A stuck rollout is repaired by deleting the pod that blocks it.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
# The causes why pods are not created or not started are in events alone.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create, patch]
{{- if not .Values.watchNamespaces }}
# Whether another operator that manages the same caches is alive.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get]
{{- end }}
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, podmonitors]
  verbs: [get, create, patch, delete]
{{- end }}

{{- /* The permissions of a cache pod in its own namespace, for discovery. */ -}}
{{- define "falcon.cacheRules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# For caches with `discovery.api: Endpoints`.
- apiGroups: [""]
  resources: [endpoints]
  verbs: [list, watch]
{{- end }}
