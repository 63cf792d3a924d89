{{/* Names around the transcript store. */}}

{{- define "paddock.transcripts.claimName" -}}
{{- default (printf "%s-transcripts" (include "paddock.fullname" .)) .Values.transcripts.sqlite.existingClaim -}}
{{- end -}}

{{- define "paddock.transcripts.secretName" -}}
{{- default (printf "%s-transcripts" (include "paddock.fullname" .)) .Values.transcripts.postgres.existingSecret.name -}}
{{- end -}}

{{- define "paddock.transcripts.secretKey" -}}
{{- ternary .Values.transcripts.postgres.existingSecret.key "url" (ne .Values.transcripts.postgres.existingSecret.name "") -}}
{{- end -}}

{{/* A database file has one writer. */}}
{{- define "paddock.transcripts.check" -}}
{{- if and (eq .Values.transcripts.store "sqlite") (gt (int .Values.gateway.replicas) 1) -}}
{{- fail "gateway.replicas is more than 1, but transcripts.store is sqlite, which only one gateway can use: set transcripts.store to postgres" -}}
{{- end -}}
{{- end -}}
