{{- define "handfast.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "handfast.selector" -}}
app.kubernetes.io/name: handfast-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "handfast.labels" -}}
{{ include "handfast.selector" . }}
app.kubernetes.io/part-of: handfast
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An image by its digest if there is one, else by its tag, else by the chart's version. */}}
{{- define "handfast.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end }}

{{/* What the operator may do in a namespace with Tunnels; a test compares it with what it does. */}}
{{- define "handfast.rules" -}}
- apiGroups: [handfast.dev]
  resources: [tunnels, peers]
  verbs: [list, watch]
- apiGroups: [handfast.dev]
  resources: [tunnels/status, peers/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# Why an image cannot be pulled stands in events only.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
{{- end }}

{{/* What the tunnel's container is made of, wherever it runs. */}}
{{- define "handfast.tunnel.environment" -}}
- name: HANDFAST_TUNNEL_IMAGE
  value: {{ include "handfast.image" (dict "image" .Values.image.tunnel "version" .Chart.AppVersion) | quote }}
- name: HANDFAST_IMAGE_PULL_POLICY
  value: {{ .Values.image.pullPolicy }}
- name: HANDFAST_IMAGE_PULL_SECRETS
  value: {{ join "," .Values.image.pullSecrets | quote }}
{{- end }}

{{- define "handfast.injector.selector" -}}
app.kubernetes.io/name: handfast-injector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "handfast.injector.labels" -}}
{{ include "handfast.injector.selector" . }}
{{ omit (include "handfast.labels" . | fromYaml) "app.kubernetes.io/name" "app.kubernetes.io/instance" | toYaml }}
{{- end }}

{{/* What the injector may read in a namespace with Tunnels. */}}
{{- define "handfast.injector.rules" -}}
- apiGroups: [handfast.dev]
  resources: [tunnels]
  verbs: [get]
# Who else has a Tunnel.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [apps]
  resources: [deployments, replicasets, statefulsets]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get]
{{- end }}
