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
	// What the agents' images have in common: images/agent-base.
	agentBase    = "localhost/paddock-base:agent"
	agentBaseDir = "agent-base"

	debianRelease = "bookworm"
)

// base is a local image that others are made from.
type base struct {
	image string
	// recipe is part of the keys of images made from it.
	recipe string
	make   func(*builder) error
}

// baseFor tells which local image stands in for a build argument's. images is
// the folder of all images.
func baseFor(argument, images string) (*base, error) {
	switch argument {
	case "BASE":
		return ownBase(debianBase, 2, (*builder).makeDebianBase), nil
	case "NODE_BASE":
		return ownBase(nodeBase, 3, (*builder).makeNodeBase), nil
	case "AGENT_BASE":
		return folderBase(agentBase, images, agentBaseDir)
	}
	return nil, fmt.Errorf("no local image is known for ARG %s: use BASE, NODE_BASE or AGENT_BASE", argument)
}

// ownBase is a base that is made once and kept, so its recipe names it, not its
// content. version counts what is changed here.
func ownBase(image string, version int, make func(*builder) error) *base {
	return &base{image, fmt.Sprintf("%s %d %s", image, version, debianRelease), make}
}

// folderBase is a base made from one of the folders of images.
func folderBase(ref, images, name string) (*base, error) {
	p, err := newPlan(image{name: name, dir: filepath.Join(images, name), ref: ref})
	if err != nil {
		return nil, err
	}
	return &base{ref, p.key.String(), func(b *builder) error { return b.buildBase(p) }}, nil
}

// ensureBase makes a base that is not there, or was made from something else.
func (b *builder) ensureBase(base *base) error {
	marker := filepath.Join(b.storage, "base-"+newKey(base.image).String())
	if made, err := os.ReadFile(marker); err == nil && string(made) == base.recipe {
		return nil
	}
	b.steps.done("making %s (once)", base.image)
	if err := base.make(b); err != nil {
		return fmt.Errorf("make %s: %w", base.image, err)
	}
	b.steps.done("made %s", base.image)
	return os.WriteFile(marker, []byte(base.recipe), 0o644)
}

// buildBase builds an image of a folder into the builder's own storage.
func (b *builder) buildBase(p *plan) error {
	if err := b.ensureBases(p); err != nil {
		return err
	}
	work, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	context := filepath.Join(work, "context")
	if err := p.file.composeContext(p.binaries, context); err != nil {
		return err
	}
	return b.build(context, p.ref, p.arguments)
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

// makeNodeBase adds Node and npm.
func (b *builder) makeNodeBase() error {
	if err := b.ensureBase(ownBase(debianBase, 2, (*builder).makeDebianBase)); err != nil {
		return err
	}
	work, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	return b.buildLocal(nodeBase, work, `FROM `+debianBase+`
RUN apt-get update && apt-get install --yes --no-install-recommends npm && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
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
