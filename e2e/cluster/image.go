package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// Image is a Dockerfile to build.
type Image struct {
	Name       string // local/NAME:TAG, as pods say it
	Dockerfile string
	Context    string   // the folder whose files it copies; a .dockerignore there is heeded
	Args       []string // "NAME=VALUE" for its ARGs
}

// Build builds the image with buildah and returns the path of its archive, which lies in dir, for
// [Cluster.ImportImage]. In the folder that [ImagesDir] returns, the next [Up] imports it. As bases
// there are "local/golang:1", which has Go, busybox and the machine's Go caches,
// "local/server-mariadb:1" and "scratch".
func (i Image) Build(ctx context.Context, dir string) (string, error) {
	p, err := findPlaces(ctx)
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, strings.ReplaceAll(filepath.Base(i.Name), ":", "-")+".tar") // a colon would end the name
	args := []string{i.Name, archive, i.Dockerfile, i.Context}
	for _, arg := range i.Args {
		args = append(args, "--build-arg", arg)
	}
	if _, err := p.script(ctx, "image-build.sh", args...); err != nil {
		return "", fmt.Errorf("build %s: %w", i.Name, err)
	}
	return archive, nil
}

// ImagesDir is the folder whose image archives Up imports.
func ImagesDir(ctx context.Context) (string, error) {
	p, err := findPlaces(ctx)
	return p.images, err
}

// ImportImage gives the node an image from a docker-archive, as if a registry had got it.
func (c *Cluster) ImportImage(ctx context.Context, archive string) error {
	if _, err := c.ctr(ctx, "images", "import", archive); err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	return nil
}
