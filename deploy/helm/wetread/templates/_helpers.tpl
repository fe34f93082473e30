{{- define "wetread.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "wetread.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wetread.labels" -}}
{{ include "wetread.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "wetread.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "wetread.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-data" (include "wetread.name" .)) }}
{{- end }}

{{/* The settings: what the operator gave, with what the chart decides over it */}}
{{- define "wetread.settings" -}}
{{- $given := .Values.config }}
{{- $own := dict "data" "/var/lib/wetread" "database" .Values.database.url }}
{{- $own = merge $own (dict "listener" (dict "port" (int .Values.listen.port))) }}
{{- $own = merge $own (dict "commitment" (dict "host" "0.0.0.0" "port" (int .Values.deliver.commitment.port))) }}
{{- $own = merge $own (dict "web" (dict "host" "0.0.0.0" "port" (int .Values.web.port))) }}
{{- with .Values.database.passwordSecret }}{{ if .name }}{{ $own = merge $own (dict "database_password_file" (printf "/run/secrets/database/%s" .key)) }}{{ end }}{{ end }}
{{- if .Values.routes }}{{ $own = merge $own (dict "routes" "routes.yaml") }}{{ end }}
{{- toYaml (mergeOverwrite (deepCopy $given) $own) }}
{{- end }}

{{/* One process. Called with (dict "root" $ "role" "work" "own" .Values.work "port" 0 "probe" "exec") */}}
{{- define "wetread.process" -}}
{{- $root := .root }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "wetread.name" $root }}-{{ .role }}
  labels:
    {{- include "wetread.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  replicas: {{ .own.replicas }}
  selector:
    matchLabels:
      {{- include "wetread.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
  template:
    metadata:
      labels:
        {{- include "wetread.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .role }}
      annotations:
        checksum/settings: {{ printf "%s%s" (include "wetread.settings" $root) (toYaml $root.Values.routes) | sha256sum }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with (.own.gpu | default dict).runtimeClass }}
      runtimeClassName: {{ . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ int $root.Values.podSecurity.uid }}
        runAsGroup: {{ int $root.Values.podSecurity.uid }}
        fsGroup: {{ int $root.Values.podSecurity.uid }}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .role }}
          image: {{ include "wetread.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ .role }}, --config, /etc/wetread/node.yaml]
          {{- if .port }}
          ports:
            - {name: {{ .portName }}, containerPort: {{ int .port }}, protocol: TCP}
          {{- end }}
          {{- /* What asks the database may not restart a pod: with PostgreSQL away it would end every reading */}}
          {{- if eq .role "web" }}
          startupProbe: {httpGet: {path: /livez, port: web}, periodSeconds: 5, failureThreshold: 60}
          livenessProbe: {httpGet: {path: /livez, port: web}, periodSeconds: 20, timeoutSeconds: 5, failureThreshold: 3}
          readinessProbe: {httpGet: {path: /livez, port: web}, periodSeconds: 10, timeoutSeconds: 5}  # the pages tell of a node that is not ready
          {{- else if eq .role "listen" }}
          startupProbe: {tcpSocket: {port: dicom}, periodSeconds: 5, failureThreshold: 60}
          livenessProbe: {tcpSocket: {port: dicom}, periodSeconds: 20, timeoutSeconds: 5, failureThreshold: 3}
          readinessProbe: {tcpSocket: {port: dicom}, periodSeconds: 10, timeoutSeconds: 5}
          {{- else }}
          readinessProbe:
            exec: {command: [wetread, status, --config, /etc/wetread/node.yaml, --alive, {{ .role }}]}
            periodSeconds: 30
            timeoutSeconds: 20
          {{- end }}
          resources:
            {{- $resources := deepCopy .own.resources }}
            {{- if (.own.gpu | default dict).enabled }}
            {{- $count := dict .own.gpu.resource (int .own.gpu.count) }}
            {{- $resources = mergeOverwrite $resources (dict "limits" $count "requests" $count) }}
            {{- end }}
            {{- toYaml $resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: data, mountPath: /var/lib/wetread}
            - {name: settings, mountPath: /etc/wetread, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- if $root.Values.models.existingClaim }}
            - {name: models, mountPath: /models, readOnly: true}
            {{- end }}
            {{- if $root.Values.database.passwordSecret.name }}
            - {name: database, mountPath: /run/secrets/database, readOnly: true}
            {{- end }}
            {{- range $root.Values.secrets }}
            - {name: secret-{{ .name }}, mountPath: /run/secrets/{{ .name }}, readOnly: true}
            {{- end }}
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: {{ include "wetread.claim" $root }}}
        - name: settings
          configMap: {name: {{ include "wetread.name" $root }}}
        - name: tmp
          emptyDir: {sizeLimit: 2Gi}
        {{- with $root.Values.models.existingClaim }}
        - name: models
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
        {{- end }}
        {{- with $root.Values.database.passwordSecret.name }}
        - name: database
          secret: {secretName: {{ . }}, defaultMode: 0400}
        {{- end }}
        {{- range $root.Values.secrets }}
        - name: secret-{{ .name }}
          secret: {secretName: {{ .secret }}, defaultMode: 0400}
        {{- end }}
      {{- with .own.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .own.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .own.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* Called with (dict "root" $ "role" "listen" "service" .Values.listen.service "portName" "dicom" "port" 11112) */}}
{{- define "wetread.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "wetread.name" .root }}-{{ .role }}
  labels:
    {{- include "wetread.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  {{- with .service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .service.type }}
  {{- if ne .service.type "ClusterIP" }}
  externalTrafficPolicy: Local  # the allow-list judges the caller's own address
  {{- end }}
  {{- with .service.loadBalancerIP }}
  loadBalancerIP: {{ . }}
  {{- end }}
  {{- with .service.sourceRanges }}
  loadBalancerSourceRanges: {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    {{- include "wetread.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  ports:
    - {name: {{ .portName }}, port: {{ int .port }}, targetPort: {{ .portName }}, protocol: TCP}
{{- end }}
