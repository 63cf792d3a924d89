package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"
)

// builder executes Containerfiles with buildah, in a storage of its own, and
// writes what comes out as OCI archives into $PADDOCK_CACHE/images.
type builder struct {
	storage, archives, logs string
	steps                   *steps
}

// image is one image to build.
type image struct {
	name     string // of its folder
	dir      string
	ref      string // what the cluster calls it
	binaries string // folder with the programs it takes
}

// keptArchives of one image stay in the cache, so that going back and forth
// between two states of the sources stays instant without filling the disk.
const keptArchives = 3

func newBuilder(s *steps) (*builder, error) {
	b := &builder{steps: s}
	var err error
	for dir, part := range map[*string]string{&b.storage: "buildah", &b.archives: "images", &b.logs: "logs"} {
		if *dir, err = cachePath(part); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// plan is how one image is built: all that its key is made from.
type plan struct {
	image
	file      *containerfile
	key       *key
	bases     []*base // local images to have first
	arguments []string
	archive   string // where the result is, or will be
}

func (b *builder) plan(i image) (*plan, error) {
	p, err := newPlan(i)
	if err != nil {
		return nil, err
	}
	p.archive = filepath.Join(b.archives, i.name+"-"+p.key.String()+".tar")
	return p, nil
}

func newPlan(i image) (*plan, error) {
	f, err := readContainerfile(i.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no image %q: there is no %s", i.name, filepath.Join(i.dir, "Containerfile"))
	}
	if err != nil {
		return nil, err
	}
	p := &plan{image: i, file: f, key: newKey("image 1", i.ref)}
	if err := p.key.addTree(i.dir); err != nil {
		return nil, err
	}
	for _, program := range f.binaries {
		if err := p.key.addFile(program, filepath.Join(i.binaries, program)); err != nil {
			return nil, fmt.Errorf("image %s takes the program %s: %w; build it first, or name its folder with --binaries", i.name, program, err)
		}
	}
	for _, argument := range f.bases {
		base, err := baseFor(argument, filepath.Dir(i.dir))
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", i.name, err)
		}
		p.key.add(argument, base.recipe)
		p.bases = append(p.bases, base)
		p.arguments = append(p.arguments, argument+"="+base.image)
	}
	return p, nil
}

// present tells whether the plan's archive is there, and marks it as in use,
// for the oldest are dropped.
func (p *plan) present() bool {
	now := time.Now()
	return os.Chtimes(p.archive, now, now) == nil
}

func (b *builder) execute(p *plan) error {
	if err := b.ensureBases(p); err != nil {
		return err
	}
	if err := b.buildArchive(p); err != nil {
		return fmt.Errorf("build image %s: %w", p.name, err)
	}
	b.steps.done("built %s", p.ref)
	return b.dropOldArchives(p.name)
}

func (b *builder) ensureBases(p *plan) error {
	for _, base := range p.bases {
		if err := b.ensureBase(base); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) buildArchive(p *plan) error {
	work, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	context, layout := filepath.Join(work, "context"), filepath.Join(work, "layout")
	if err := p.file.composeContext(p.binaries, context); err != nil {
		return err
	}
	if err := b.build(context, "oci:"+layout+":"+p.ref, p.arguments); err != nil {
		return err
	}
	// Renamed when complete: a file of that name is always whole.
	unfinished := p.archive + ".unfinished"
	if err := packLayout(layout, p.ref, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, p.archive)
}

// build runs buildah. The timestamp makes equal content an equal digest.
//
// RUN steps run in a plain chroot with the host's network, which needs nothing
// of the machine that a container runtime would. During them, root's home is a
// folder of ours: it tells package managers whom this machine trusts, and
// neither it nor what they leave there ends up in the image.
func (b *builder) build(context, target string, arguments []string) error {
	argv := b.buildah("bud", "--isolation", "chroot", "--network", "host", "--timestamp", "0",
		"--file", filepath.Join(context, "Containerfile"), "--tag", target)
	for _, argument := range arguments {
		argv = append(argv, "--build-arg", argument)
	}
	home, err := b.workDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := writeBuildHome(home); err != nil {
		return err
	}
	argv = append(argv, "--volume", home+":"+buildHome, context)
	log := filepath.Join(b.logs, "image-"+newKey(target).String()+".log")
	if err := loggedWithoutSync(log, context, nil, argv...); err != nil {
		return err
	}
	return os.Remove(log)
}

func (b *builder) dropOldArchives(name string) error {
	files, err := filepath.Glob(filepath.Join(b.archives, name+"-????????????.tar"))
	if err != nil {
		return err
	}
	age := map[string]time.Time{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		age[file] = info.ModTime()
	}
	sort.Slice(files, func(i, j int) bool { return age[files[i]].After(age[files[j]]) })
	for _, file := range files[min(len(files), keptArchives):] {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// systemImages are the images of tests/cluster/addons/images.
var systemImages = map[string]string{"pause": pauseImage, "coredns": corednsImage, "toolbox": toolboxImage}

// ensureSystemImages gives the archives of what every node needs.
func ensureSystemImages(repo string, t *tools, s *steps) ([]string, error) {
	var images []image
	for name, ref := range systemImages {
		images = append(images, image{name: name, dir: filepath.Join(repo, "tests/cluster/addons/images", name), ref: ref, binaries: t.addons})
	}
	sort.Slice(images, func(i, j int) bool { return images[i].name < images[j].name })
	return ensureImages(images, s)
}

// ensureImages gives the images' archives. Builds share a storage, so they take
// turns; what is already there waits for nobody.
func ensureImages(images []image, s *steps) ([]string, error) {
	b, err := newBuilder(s)
	if err != nil {
		return nil, err
	}
	var archives []string
	for _, i := range images {
		p, err := b.plan(i)
		if err != nil {
			return nil, err
		}
		if !p.present() {
			if err := b.inTurn(p); err != nil {
				return nil, err
			}
		}
		archives = append(archives, p.archive)
	}
	return archives, nil
}

func (b *builder) inTurn(p *plan) error {
	unlock, err := lock("images")
	if err != nil {
		return err
	}
	defer unlock()
	if p.present() { // someone else built it meanwhile
		return nil
	}
	if err := b.sweep(); err != nil {
		return err
	}
	return b.execute(p)
}

// sweep removes what a build that was killed left in the storage.
func (b *builder) sweep() error {
	left, err := filepath.Glob(filepath.Join(b.storage, workPrefix+"*"))
	if err != nil || len(left) == 0 {
		return err
	}
	if _, err := output(b.buildah("rm", "--all")...); err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// workPrefix starts the names of folders that live as long as one build.
const workPrefix = "work-"

func (b *builder) workDir() (string, error) { return os.MkdirTemp(b.storage, workPrefix) }

// buildah's storage is apart from the user's own.
func (b *builder) buildah(args ...string) []string {
	return append([]string{"buildah", "--root", filepath.Join(b.storage, "root"),
		"--runroot", filepath.Join(b.storage, "run"), "--storage-driver", "overlay"}, args...)
}

func runImageBuild(args []string) error {
	flags := newFlags("image build", "[--tag TAG] [--binaries DIR] NAME...", `Builds images/NAME/Containerfile into an OCI archive in $PADDOCK_CACHE/images
and prints the archive's path, one a line. An image whose files, programs and
base did not change is not built again. The image is called
localhost/paddock/NAME:TAG.`)
	tag := flags.String("tag", "dev", "the images' tag")
	binaries := flags.String("binaries", "", "folder with the programs that images take (default $PADDOCK_CACHE/target/release)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("image build: which images? (folders of images/)")
	}
	if err := needRoot(); err != nil {
		return err
	}
	repo, err := repoDir()
	if err != nil {
		return err
	}
	if *binaries == "" {
		if *binaries, err = cachePath("target", "release"); err != nil {
			return err
		}
	}
	s := newSteps()
	if err := installPackages(s); err != nil {
		return err
	}
	var images []image
	for _, name := range flags.Args() {
		images = append(images, image{name: name, dir: filepath.Join(repo, "images", name), ref: "localhost/paddock/" + name + ":" + *tag, binaries: *binaries})
	}
	archives, err := ensureImages(images, s)
	if err != nil {
		return err
	}
	for _, archive := range archives {
		fmt.Println(archive)
	}
	return nil
}
