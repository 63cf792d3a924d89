package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Base images that Containerfiles name can't be pulled here, so local ones with
// the same content in all that matters take their place by build argument.
const (
	debianBase = "localhost/paddock-base:bookworm"
	nodeBase   = "localhost/paddock-base:node"

	debianRelease = "bookworm"
)

// baseFor tells which local image stands in for a build argument's.
func baseFor(argument string) (string, error) {
	switch argument {
	case "BASE":
		return debianBase, nil
	case "NODE_BASE":
		return nodeBase, nil
	}
	return "", fmt.Errorf("no local image is known for ARG %s: use BASE or NODE_BASE", argument)
}

// baseRecipe is part of the keys of images made from a base: a base is made
// once and kept, so its recipe names it, not its content.
func baseRecipe(image string) string {
	return fmt.Sprintf("%s 2 %s", image, debianRelease)
}

func (b *builder) ensureBase(image string) error {
	marker := filepath.Join(b.storage, "base-"+newKey(baseRecipe(image)).String())
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	b.steps.done("making %s (once)", image)
	make := b.makeDebianBase
	if image == nodeBase {
		make = b.makeNodeBase
	}
	if err := make(); err != nil {
		return fmt.Errorf("make %s: %w", image, err)
	}
	b.steps.done("made %s", image)
	return os.WriteFile(marker, nil, 0o644)
}

// makeDebianBase installs a minimal Debian into an image.
func (b *builder) makeDebianBase() error {
	work, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	root := filepath.Join(work, "root")
	if err := loggedWithoutSync(filepath.Join(b.logs, "debootstrap.log"), work, nil,
		"debootstrap", "--variant=minbase", debianRelease, root); err != nil {
		return err
	}
	for _, pattern := range []string{
		"var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*.log", "etc/hostname", "etc/resolv.conf",
		// What the image it stands for leaves out as well.
		"usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*",
	} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.RemoveAll(file); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/dpkg/dpkg.cfg.d/slim"), []byte(slimPackages), 0o644); err != nil {
		return err
	}
	// Newer packages come from where this machine gets its own.
	const sources = "etc/apt/sources.list.d/debian.sources"
	if text, err := os.ReadFile("/" + sources); err == nil {
		if err := os.WriteFile(filepath.Join(root, sources), text, 0o644); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(root, "etc/apt/sources.list")); err != nil {
			return err
		}
	}
	if _, err := output("tar", "--numeric-owner", "--sort=name", "--directory="+root, "--create", "--file="+filepath.Join(work, "root.tar"), "."); err != nil {
		return err
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	return b.buildLocal(debianBase, work, "FROM scratch\nADD root.tar /\nCMD [\"bash\"]\n")
}

// slimPackages keeps packages that are installed later from bringing back what
// was left out.
const slimPackages = `path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
`

// makeNodeBase adds npm, for stages that fetch from its registry.
func (b *builder) makeNodeBase() error {
	if err := b.ensureBase(debianBase); err != nil {
		return err
	}
	work, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	return b.buildLocal(nodeBase, work, `FROM `+debianBase+`
RUN apt-get update && apt-get install --yes --no-install-recommends npm && rm -rf /var/lib/apt/lists/*
`)
}

// buildLocal builds an image that stays in the builder's own storage.
func (b *builder) buildLocal(image, context, recipe string) error {
	file := filepath.Join(context, "Containerfile")
	if err := os.WriteFile(file, []byte(recipe), 0o644); err != nil {
		return err
	}
	return b.build(context, image, nil)
}
