{{/*
Names and contents of the Secrets. A generated value is made at most once per rendering and remembered in .Values.generated
(no value of the user's: the schema refuses the key), so that a Secret and the checksum of it in a pod agree. Over upgrades
the value in the cluster is kept; `helm template` has no cluster and makes a new one each time.
*/}}

{{- define "paddock.masterKey.secretName" -}}
{{- default (printf "%s-master-key" (include "paddock.fullname" .)) .Values.auth.masterKey.existingSecret.name -}}
{{- end -}}

{{- define "paddock.masterKey.secretKey" -}}
{{- ternary .Values.auth.masterKey.existingSecret.key "key" (ne .Values.auth.masterKey.existingSecret.name "") -}}
{{- end -}}

{{- define "paddock.masterKey.value" -}}
{{- $generated := include "paddock.secret.generatedDict" . -}}
{{- if not (hasKey .Values.generated "masterKey") -}}
{{- $value := include "paddock.secret.current" (dict "root" . "name" (include "paddock.masterKey.secretName" .) "key" "key") -}}
{{- $_ := set .Values.generated "masterKey" (default (default (randAlphaNum 48 | printf "pk-%s") $value) .Values.auth.masterKey.value) -}}
{{- end -}}
{{- .Values.generated.masterKey -}}
{{- end -}}

{{- define "paddock.signingKey.secretName" -}}
{{- default (printf "%s-signing-key" (include "paddock.fullname" .)) .Values.auth.signingKey.existingSecret.name -}}
{{- end -}}

{{- define "paddock.signingKey.secretKey" -}}
{{- ternary .Values.auth.signingKey.existingSecret.key "key.pem" (ne .Values.auth.signingKey.existingSecret.name "") -}}
{{- end -}}

{{- define "paddock.signingKey.value" -}}
{{- $generated := include "paddock.secret.generatedDict" . -}}
{{- if not (hasKey .Values.generated "signingKey") -}}
{{- $value := include "paddock.secret.current" (dict "root" . "name" (include "paddock.signingKey.secretName" .) "key" "key.pem") -}}
{{- $_ := set .Values.generated "signingKey" (default (genPrivateKey "ed25519") $value) -}}
{{- end -}}
{{- .Values.generated.signingKey -}}
{{- end -}}

{{- define "paddock.scopedKeys.secretName" -}}
{{- default (printf "%s-api-keys" (include "paddock.fullname" .)) .Values.auth.scopedKeys.secretName -}}
{{- end -}}

{{- define "paddock.modelGateway.secretName" -}}
{{- default (printf "%s-model-gateway" (include "paddock.fullname" .)) .Values.modelGateway.existingSecret.name -}}
{{- end -}}

{{- define "paddock.modelGateway.secretKey" -}}
{{- ternary .Values.modelGateway.existingSecret.key "api-key" (ne .Values.modelGateway.existingSecret.name "") -}}
{{- end -}}

{{/* Not empty where the model gateway wants a key. */}}
{{- define "paddock.modelGateway.hasKey" -}}
{{- if or .Values.modelGateway.apiKey .Values.modelGateway.existingSecret.name -}}true{{- end -}}
{{- end -}}

{{- define "paddock.secret.generatedDict" -}}
{{- if not (hasKey .Values "generated") -}}
{{- $_ := set .Values "generated" dict -}}
{{- end -}}
{{- end -}}

{{/* The value that a Secret has in the cluster now, or nothing. Takes a dict: root, name, key. */}}
{{- define "paddock.secret.current" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace .name -}}
{{- with $secret -}}
{{- index (default dict .data) $.key | default "" | b64dec -}}
{{- end -}}
{{- end -}}

{{/* Changes with the signing key, which programs read once, at their start. A Secret of the user's is known by its name only. */}}
{{- define "paddock.signingKey.checksum" -}}
{{- with .Values.auth.signingKey.existingSecret -}}
{{- if .name -}}
{{- printf "%s/%s" .name .key | sha256sum | trunc 16 -}}
{{- else -}}
{{- include "paddock.signingKey.value" $ | sha256sum | trunc 16 -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Changes with the master key. */}}
{{- define "paddock.masterKey.checksum" -}}
{{- with .Values.auth.masterKey.existingSecret -}}
{{- if .name -}}
{{- printf "%s/%s" .name .key | sha256sum | trunc 16 -}}
{{- else -}}
{{- include "paddock.masterKey.value" $ | sha256sum | trunc 16 -}}
{{- end -}}
{{- end -}}
{{- end -}}
