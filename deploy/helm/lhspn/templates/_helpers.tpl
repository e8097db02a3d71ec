{{- define "lhspn.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "lhspn.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "lhspn.name" .) .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "lhspn.name" .) | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* What tells the pods of this release from others; it cannot be changed by an upgrade. */}}
{{- define "lhspn.selector" -}}
app.kubernetes.io/name: {{ include "lhspn.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lhspn.labels" -}}
{{ include "lhspn.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{- define "lhspn.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "lhspn.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "lhspn.fullname" .) }}
{{- end }}

{{/* What a pod of the service and one of the migration have in common. */}}
{{- define "lhspn.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lhspn.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{- define "lhspn.env" -}}
env:
  - { name: LHSPN_LISTEN, value: "0.0.0.0:8080" }
  - { name: LHSPN_OPS_LISTEN, value: "0.0.0.0:9090" }
  - { name: LHSPN_SHUTDOWN_DELAY, value: "{{ .Values.shutdown.delaySeconds }}s" }
  - { name: LHSPN_SHUTDOWN_DEADLINE, value: "{{ .Values.shutdown.deadlineSeconds }}s" }
  - { name: GOMEMLIMIT, value: {{ .Values.goMemLimit | quote }} }
  {{- if .Values.database.existingSecret }}
  - { name: LHSPN_DATABASE_FILE, value: /run/secrets/lhspn/database/{{ .Values.database.key }} }
  {{- end }}
  {{- if .Values.masterKey.existingSecret }}
  - { name: LHSPN_MASTER_KEY_FILE, value: /run/secrets/lhspn/master-key/{{ .Values.masterKey.key }} }
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "lhspn.volumeMounts" -}}
volumeMounts:
  - { name: config, mountPath: /etc/lhspn, readOnly: true }
  {{- if .Values.database.existingSecret }}
  - { name: database, mountPath: /run/secrets/lhspn/database, readOnly: true }
  {{- end }}
  {{- if .Values.masterKey.existingSecret }}
  - { name: master-key, mountPath: /run/secrets/lhspn/master-key, readOnly: true }
  {{- end }}
{{- end }}

{{/* The configuration and the credentials stand in one directory, since paths are taken from the file's. */}}
{{- define "lhspn.volumes" -}}
volumes:
  - name: config
    projected:
      defaultMode: 0440
      sources:
        - secret:
            name: {{ .Values.config.existingSecret }}
            items: [{ key: lhspn.yaml, path: lhspn.yaml }]
        {{- range .Values.credentials.existingSecrets }}
        - secret: { name: {{ . }} }
        {{- end }}
  {{- if .Values.database.existingSecret }}
  - name: database
    secret: { secretName: {{ .Values.database.existingSecret }}, defaultMode: 0440 }
  {{- end }}
  {{- if .Values.masterKey.existingSecret }}
  - name: master-key
    secret: { secretName: {{ .Values.masterKey.existingSecret }}, defaultMode: 0440 }
  {{- end }}
{{- end }}
