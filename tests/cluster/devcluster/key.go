package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// key names a thing by what it is made from, so that it is made again exactly
// when one of them changed.
type key struct{ sum hash.Hash }

func newKey(parts ...string) *key {
	k := &key{sha256.New()}
	k.add(parts...)
	return k
}

// add takes words; each is written with its length, so that "ab","c" and
// "a","bc" differ.
func (k *key) add(parts ...string) {
	for _, part := range parts {
		fmt.Fprintf(k.sum, "%d:%s", len(part), part)
	}
}

// addFile takes a file's content and whether it is executable.
func (k *key) addFile(name, file string) error {
	opened, err := os.Open(file)
	if err != nil {
		return err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	k.add(name, fmt.Sprint(info.Size(), info.Mode().Perm()&0o100 != 0))
	_, err = io.Copy(k.sum, opened)
	return err
}

// addTree takes all files below a folder; WalkDir goes in order of names.
func (k *key) addTree(dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return k.addFile(name, file)
	})
}

// addGlob takes the files and folders of a folder that fit a pattern.
func (k *key) addGlob(dir, pattern string) error {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	for _, file := range found {
		if err := k.addTree(file); err != nil {
			return err
		}
	}
	return nil
}

func (k *key) String() string { return hex.EncodeToString(k.sum.Sum(nil))[:12] }
