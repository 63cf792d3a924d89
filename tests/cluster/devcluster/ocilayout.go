package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// An OCI archive is a tar of an OCI layout: index.json names a manifest, and
// blobs/sha256 holds it and all that it names.

// refAnnotation is where containerd looks for the name of an imported image.
const refAnnotation = "io.containerd.image.name"

type ociIndex struct {
	SchemaVersion int             `json:"schemaVersion"`
	Manifests     []ociDescriptor `json:"manifests"`
}

type ociDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// packLayout writes a layout as an archive: equal layouts give equal files.
// The index comes first, so that an archive's name and digest are read without
// reading its layers.
func packLayout(layout, ref, archive string) error {
	var index ociIndex
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s holds %d images, expected one", layout, len(index.Manifests))
	}
	index.Manifests[0].Annotations[refAnnotation] = ref
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	out := tar.NewWriter(file)
	for _, small := range []struct{ name, text string }{
		{"index.json", string(text)},
		{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`},
	} {
		if err := out.WriteHeader(&tar.Header{Name: small.name, Mode: 0o644, Size: int64(len(small.text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(out, small.text); err != nil {
			return err
		}
	}
	blobs, err := filepath.Glob(filepath.Join(layout, "blobs/sha256/*"))
	if err != nil {
		return err
	}
	sort.Strings(blobs)
	for _, blob := range blobs {
		if err := packFile(out, "blobs/sha256/"+filepath.Base(blob), blob); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return file.Close()
}

func packFile(out *tar.Writer, name, file string) error {
	opened, err := os.Open(file)
	if err != nil {
		return err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(out, opened)
	return err
}

// readArchive gives the name and the digest of an archive's image.
func readArchive(archive string) (ref, digest string, err error) {
	file, err := os.Open(archive)
	if err != nil {
		return "", "", err
	}
	defer file.Close()
	in := tar.NewReader(file)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return "", "", fmt.Errorf("%s has no index.json: it is no OCI archive", archive)
		}
		if err != nil {
			return "", "", fmt.Errorf("read %s: %w", archive, err)
		}
		if header.Name != "index.json" {
			continue
		}
		var index ociIndex
		if err := json.NewDecoder(in).Decode(&index); err != nil {
			return "", "", fmt.Errorf("read index.json of %s: %w", archive, err)
		}
		if len(index.Manifests) != 1 || index.Manifests[0].Annotations[refAnnotation] == "" {
			return "", "", fmt.Errorf("%s doesn't name one image: build it with devcluster image build", archive)
		}
		return index.Manifests[0].Annotations[refAnnotation], index.Manifests[0].Digest, nil
	}
}
