package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// manifests is where they are, seen from this package.
const manifests = "../../manifests"

// kustomizeTimeout is far more than the tool takes.
const kustomizeTimeout = 2 * time.Minute

// kustomization is as much of one as the manifests use; anything else fails to decode.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Namespace  string   `json:"namespace"`
	Resources  []string `json:"resources"`
	Components []string `json:"components"`
	Labels     any      `json:"labels"`
	Patches    []struct {
		Path    string `json:"path"`
		Target  any    `json:"target"`
		Options any    `json:"options"`
	} `json:"patches"`
	Replicas []struct {
		Name  string `json:"name"`
		Count int32  `json:"count"`
	} `json:"replicas"`
	Transformers []string `json:"transformers"`
	Images       []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
	ConfigMapGenerator []struct {
		Name  string   `json:"name"`
		Files []string `json:"files"`
	} `json:"configMapGenerator"`
}

func readKustomization(t *testing.T, dir string) kustomization {
	t.Helper()
	var k kustomization
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(dir, "kustomization.yaml")), &k); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return k
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode is strict: an unknown or doubled field is an error.
func decode(t *testing.T, document []byte) runtime.Object {
	t.Helper()
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	object, _, err := codecs.UniversalDeserializer().Decode(document, nil, nil)
	if err != nil {
		t.Fatalf("decode: %v\n%s", err, document)
	}
	return object
}

func documents(text []byte) [][]byte { return bytes.Split(text, []byte("\n---\n")) }

// rendered are the objects of one overlay.
type rendered []runtime.Object

// find returns the object of a type and, unless it is empty, a name.
func find[T runtime.Object](t *testing.T, all rendered, name string) T {
	t.Helper()
	for _, o := range all {
		named, _ := o.(interface{ GetName() string })
		if match, ok := o.(T); ok && (name == "" || named.GetName() == name) {
			return match
		}
	}
	var none T
	t.Fatalf("no %T %s", none, name)
	return none
}

// render does for an overlay what kustomize does for ours, for machines without it.
func render(t *testing.T, overlay string) rendered {
	t.Helper()
	dir := filepath.Join(manifests, overlay)
	k := readKustomization(t, dir)
	var all rendered
	for _, resource := range k.Resources {
		base := filepath.Join(dir, resource)
		for _, file := range readKustomization(t, base).Resources {
			for _, document := range documents(read(t, filepath.Join(base, file))) {
				all = append(all, decode(t, patched(t, dir, k, document)))
			}
		}
		for _, g := range readKustomization(t, base).ConfigMapGenerator {
			cm := &corev1.ConfigMap{Data: map[string]string{}}
			cm.Name = g.Name
			for _, file := range g.Files {
				cm.Data[filepath.Base(file)] = string(read(t, filepath.Join(base, file)))
			}
			all = append(all, cm)
		}
	}
	if len(k.Transformers) != 1 || len(k.Replicas) != 1 {
		t.Fatalf("%s: the lists of names, and the number of replicas, are not its own", overlay)
	}
	set := find[*appsv1.StatefulSet](t, all, k.Replicas[0].Name)
	set.Spec.Replicas = &k.Replicas[0].Count
	named(t, filepath.Join(dir, k.Transformers[0]), find[*rbacv1.Role](t, all, ""))
	pod := &set.Spec.Template.Spec
	for _, image := range k.Images {
		for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
			for i := range containers {
				if containers[i].Image == image.Name {
					containers[i].Image = image.NewName + ":" + image.NewTag
				}
			}
		}
	}
	return all
}

// directive is a line of a patch that is none of the object.
var directive = regexp.MustCompile(`(?m)^ *\$patch: delete\n`)

// patched applies the overlay's patches to the StatefulSet.
func patched(t *testing.T, dir string, k kustomization, document []byte) []byte {
	t.Helper()
	target, ok := decode(t, document).(*appsv1.StatefulSet)
	if !ok {
		return document
	}
	for _, p := range k.Patches {
		text := read(t, filepath.Join(dir, p.Path))
		if patch := decode(t, directive.ReplaceAll(text, nil)).(*appsv1.StatefulSet); patch.Name != target.Name {
			t.Fatalf("%s patches %s", p.Path, patch.Name)
		}
		from, err := yaml.YAMLToJSON(document)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if document, err = strategicpatch.StrategicMergePatch(from, patch, appsv1.StatefulSet{}); err != nil {
			t.Fatalf("apply %s: %v", p.Path, err)
		}
	}
	return document
}

// named gives the Role its lists of names, as members.yaml of the transformer does. What follows
// another name is left to kustomize.
func named(t *testing.T, dir string, role *rbacv1.Role) {
	t.Helper()
	var patch struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]string `json:"metadata"`
		Target     map[string]string `json:"target"`
		Patch      string            `json:"patch"`
	}
	if err := yaml.UnmarshalStrict(documents(read(t, filepath.Join(dir, "members.yaml")))[0], &patch); err != nil {
		t.Fatal(err)
	}
	if key, value, _ := strings.Cut(patch.Target["annotationSelector"], "="); role.Annotations[key] != value {
		t.Fatalf("members.yaml means %s", patch.Target)
	}
	var ops []struct {
		Op    string   `json:"op"`
		Path  string   `json:"path"`
		Value []string `json:"value"`
	}
	if err := yaml.UnmarshalStrict([]byte(patch.Patch), &ops); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		var rule int
		if _, err := fmt.Sscanf(op.Path, "/rules/%d/resourceNames", &rule); err != nil {
			t.Fatal(err)
		}
		names := &role.Rules[rule].ResourceNames
		switch {
		case op.Op == "replace" && strings.HasSuffix(op.Path, "/resourceNames"):
			*names = op.Value
		case op.Op == "remove" && strings.HasSuffix(op.Path, "/resourceNames/0"):
			*names = slices.Clone((*names)[1:])
		default:
			t.Fatalf("members.yaml: %v", op)
		}
	}
}

// kustomize renders the overlay with the real tool.
func kustomize(t *testing.T, overlay string) rendered {
	t.Helper()
	var all rendered
	for _, document := range kubectlKustomize(t, filepath.Join(manifests, overlay)) {
		all = append(all, decode(t, document))
	}
	return all
}

// layered renders overlays of a user's, each on top of the one before, the first on top of mariadb.
// They are given without their resources.
func layered(t *testing.T, overlays ...string) rendered {
	t.Helper()
	return layeredOn(t, "mariadb", overlays...)
}

// layeredOn is layered on another of our overlays. COMPONENTS stands for where ours are.
func layeredOn(t *testing.T, overlay string, overlays ...string) rendered {
	t.Helper()
	root := t.TempDir()
	relative := func(dir, to string) string {
		t.Helper()
		absolute, err := filepath.Abs(to)
		if err == nil {
			to, err = filepath.Rel(dir, absolute)
		}
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	below, dir := filepath.Join(manifests, overlay), ""
	for i, text := range overlays {
		dir = filepath.Join(root, strconv.Itoa(i))
		text = fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%s]\ntransformers: [%s]\n%s",
			relative(dir, below), relative(dir, filepath.Join(manifests, "names")), strings.ReplaceAll(text, "COMPONENTS", relative(dir, manifests)))
		if err := errors.Join(os.Mkdir(dir, 0o750), os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		below = dir
	}
	var all rendered
	for _, document := range kubectlKustomize(t, dir) {
		all = append(all, decode(t, document))
	}
	return all
}

func kubectlKustomize(t *testing.T, dir string) [][]byte {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed: only the hand-made rendering is checked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), kustomizeTimeout)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, kubectl, "kustomize", dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v: %s", err, &stderr)
	}
	return documents(out)
}

// A file that no kustomization names is one that nobody applies and no test sees.
func TestManifestFilesAreNamed(t *testing.T) {
	for _, dir := range []string{"base", "names", "mariadb", "mysql-clone", "percona", "monitoring", "certificates", "run", "lease", "from-tutorial"} {
		k := readKustomization(t, filepath.Join(manifests, dir))
		named := slices.Concat(k.Resources, []string{"kustomization.yaml"})
		for _, p := range k.Patches {
			named = append(named, p.Path)
		}
		files, err := filepath.Glob(filepath.Join(manifests, dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, error %v", dir, len(files), err)
		}
		for _, f := range files {
			if !slices.Contains(named, filepath.Base(f)) {
				t.Errorf("%s is in no kustomization", f)
			}
		}
	}
}
