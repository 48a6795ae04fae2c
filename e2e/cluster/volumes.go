package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// AddVolumes makes volumes of the storage class "local": folders on the machine's disk, as large as
// that. Claims take them as they come; a volume whose claim is deleted stays as it is until
// [Cluster.FreshVolume]. Names must be new: "data-0".
func (c *Cluster) AddVolumes(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := os.MkdirAll(c.volume(name), 0o755); err != nil { //nolint:gosec // kubelet gives it to the pod's group
			return fmt.Errorf("make volume %s: %w", name, err)
		}
		if err := c.addVolume(ctx, name, "100Gi", ""); err != nil {
			return err
		}
	}
	return nil
}

// AddLimitedVolume makes a volume for the claim of that name, an ext4 of its own of so many MiB:
// writing more fails with ENOSPC. The claim need not exist yet and gets this volume and no other.
func (c *Cluster) AddLimitedVolume(ctx context.Context, claim string, mebibytes int) error {
	name := "limited-" + claim
	if err := os.MkdirAll(c.volume(name), 0o755); err != nil { //nolint:gosec // kubelet gives it to the pod's group
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	if err := os.WriteFile(c.image(name), nil, 0o600); err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	if err := os.Truncate(c.image(name), int64(mebibytes)<<20); err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	if err := c.format(ctx, name); err != nil {
		return err
	}
	return c.addVolume(ctx, name, fmt.Sprintf("%dMi", mebibytes), claim)
}

// FreshVolume waits until a claim is gone, for which its pods must be, then empties the volume that
// it had and offers it again, as a provisioner would. A claim of a pool's volume that was already
// given to another name is no matter.
func (c *Cluster) FreshVolume(ctx context.Context, claim string) error {
	name, err := c.releasedVolume(ctx, claim)
	if err != nil {
		return err
	}
	capacity, err := c.Kubectl(ctx, "get", "pv", name, "-o", "jsonpath={.spec.capacity.storage}")
	if err != nil {
		return fmt.Errorf("read volume %s: %w", name, err)
	}
	if _, err := c.Kubectl(ctx, "delete", "pv", name, "--timeout=60s"); err != nil {
		return fmt.Errorf("delete volume %s: %w", name, err)
	}
	if exists(c.image(name)) {
		if _, err := c.node(ctx, nil, "umount", c.volume(name)); err != nil {
			return fmt.Errorf("empty volume %s: %w", name, err)
		}
		if err := c.format(ctx, name); err != nil {
			return err
		}
		return c.addVolume(ctx, name, capacity, claim)
	}
	if err := os.RemoveAll(c.volume(name)); err != nil {
		return fmt.Errorf("empty volume %s: %w", name, err)
	}
	if err := os.MkdirAll(c.volume(name), 0o755); err != nil { //nolint:gosec // kubelet gives it to the pod's group
		return fmt.Errorf("empty volume %s: %w", name, err)
	}
	return c.addVolume(ctx, name, capacity, "")
}

// VolumePath returns where on this machine the volume of a claim lies, to look into it. A limited
// volume is mounted only on the node, so its folder looks empty from here.
func (c *Cluster) VolumePath(ctx context.Context, claim string) (string, error) {
	name, err := c.Kubectl(ctx, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
	if err != nil {
		return "", fmt.Errorf("find the volume of %s: %w", claim, err)
	}
	if name == "" {
		return "", fmt.Errorf("find the volume of %s: it has none yet", claim)
	}
	return c.volume(name), nil
}

func (c *Cluster) volume(name string) string { return filepath.Join(c.places.run, "volumes", name) }
func (c *Cluster) image(name string) string  { return c.volume(name) + ".ext4" }

// format makes an empty file system in a limited volume's file and mounts it, on the node only. The
// loop device ends with the mount.
func (c *Cluster) format(ctx context.Context, name string) error {
	const script = `mkfs.ext4 -q -F -m 0 "$1" && mount -o loop "$1" "$2" && rmdir "$2/lost+found"`
	if _, err := c.node(ctx, nil, "bash", "-c", script, "format", c.image(name), c.volume(name)); err != nil {
		return fmt.Errorf("format volume %s: %w", name, err)
	}
	return nil
}

// addVolume tells the API server of a volume. If claim is not empty, only that one may have it.
func (c *Cluster) addVolume(ctx context.Context, name, capacity, claim string) error {
	spec := map[string]any{
		"capacity":                      map[string]string{"storage": capacity},
		"accessModes":                   []string{"ReadWriteOnce"},
		"persistentVolumeReclaimPolicy": "Retain",
		"storageClassName":              "local",
		"local":                         map[string]string{"path": c.volume(name)},
		"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{
			"matchExpressions": []any{map[string]any{"key": "kubernetes.io/os", "operator": "In", "values": []string{"linux"}}},
		}}}},
	}
	if claim != "" {
		spec["claimRef"] = map[string]string{"namespace": c.Namespace, "name": claim}
	}
	object, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]string{"name": name}, "spec": spec,
	})
	if err != nil {
		return fmt.Errorf("describe volume %s: %w", name, err)
	}
	if err := c.ApplyText(ctx, string(object)); err != nil {
		return fmt.Errorf("add volume %s: %w", name, err)
	}
	return nil
}

// releasedVolume waits until a claim has let go of its volume, and returns the volume's name.
func (c *Cluster) releasedVolume(ctx context.Context, claim string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var name string
	err := c.wait(ctx, "claim "+claim+" to let go of its volume", func(ctx context.Context) error {
		const each = `jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.spec.claimRef.namespace}/{.spec.claimRef.name}{"\n"}{end}`
		out, err := c.Kubectl(ctx, "get", "pv", "-o", each)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) == 3 && fields[1] == "Released" && fields[2] == c.Namespace+"/"+claim {
				name = fields[0]
				return nil
			}
		}
		return fmt.Errorf("no volume was released by %s/%s:\n%s", c.Namespace, claim, out)
	})
	return name, err
}
