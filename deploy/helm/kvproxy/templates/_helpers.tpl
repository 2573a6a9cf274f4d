{{- define "kvproxy.name" -}}{{ printf "%s" .Release.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- define "kvproxy.selector" -}}
app.kubernetes.io/name: kvproxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "kvproxy.labels" -}}
{{ include "kvproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
{{- /* The port of config.admin.listen, empty without. */ -}}
{{- define "kvproxy.adminPort" -}}
{{- with dig "admin" "listen" "" .Values.config }}{{ splitList ":" . | last }}{{ end -}}
{{- end -}}
{{- /* What kubelet asks; it has no certificate to show where one is wanted. */ -}}
{{- define "kvproxy.probe" -}}
{{- if dig "server" "tls_client_ca" "" .root.Values.config -}}
tcpSocket: {port: http}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" (ne "" (dig "server" "tls_cert" "" .root.Values.config)) }}}
{{- end -}}
{{- end -}}
{{- /* The Service whose EndpointSlices are replicas: its namespace. */ -}}
{{- define "kvproxy.discovered" -}}
{{- with dig "discovery" "kubernetes_service" "" .Values.config }}
{{- if contains "/" . }}{{ splitList "/" . | first }}{{ else }}{{ $.Release.Namespace }}{{ end }}
{{- end }}
{{- end -}}
{{- define "kvproxy.account" -}}
{{- if .Values.serviceAccount.create -}}{{ .Values.serviceAccount.name | default (include "kvproxy.name" .) }}
{{- else -}}{{ .Values.serviceAccount.name | default "default" }}{{- end -}}
{{- end -}}
