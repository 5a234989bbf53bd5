package manifests

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

// cluster is a cluster's objects by kind and name, as the API server has stored
// them, and how each was last applied.
type cluster struct {
	live    map[string]runtime.Object
	applied map[string][]byte // JSON
}

func newCluster() *cluster {
	return &cluster{live: make(map[string]runtime.Object), applied: make(map[string][]byte)}
}

// apply creates and updates objects in YAML, as kubectl and Helm do: what has
// changed since they were last applied is patched into what is there. Every update
// is the API server's to refuse. It returns the names of the objects.
func (c *cluster) apply(docs [][]byte) (names []string, err error) {
	for _, doc := range docs {
		var named unstructured.Unstructured
		if err := yaml.Unmarshal(doc, &named.Object); err != nil {
			return nil, err
		}
		name := named.GetKind() + "/" + named.GetName()
		names = append(names, name)
		asJSON, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return nil, err
		}
		if err := c.set(name, asJSON); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return names, nil
}

func (c *cluster) set(name string, doc []byte) error {
	_, typed := c.live[name]
	wanted, err := admit(doc)
	if err != nil {
		return err
	}
	_, builtIn := strategies[wanted.GetObjectKind().GroupVersionKind().GroupKind()]
	if !typed || !builtIn {
		c.live[name], c.applied[name] = stored(wanted, len(c.live)), doc
		return nil
	}

	live := c.live[name]
	liveJSON, err := runtime.Encode(unstructured.UnstructuredJSONScheme, live)
	if err != nil {
		return err
	}
	patchMeta, err := strategicpatch.NewPatchMetaFromStruct(live)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(c.applied[name], doc, liveJSON, patchMeta, true)
	if err != nil {
		return err
	}
	merged, err := strategicpatch.StrategicMergePatch(liveJSON, patch, live)
	if err != nil {
		return err
	}
	updated, _, err := legacyscheme.Codecs.UniversalDeserializer().Decode(merged, nil, nil)
	if err != nil {
		return err
	}
	if err := admitUpdate(updated, live); err != nil {
		return err
	}
	c.live[name], c.applied[name] = updated, doc
	return nil
}

// stored is a new object with what the registry allocates: a Service has an address
// from then on.
func stored(obj runtime.Object, n int) runtime.Object {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj
	}
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", n+1)
	}
	singleStack := corev1.IPFamilyPolicySingleStack
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, &singleStack
	return s
}

// admitUpdate has the API server judge an update of a stored object.
func admitUpdate(updated, live runtime.Object) error {
	gvk := live.GetObjectKind().GroupVersionKind()
	strategy, ok := strategies[gvk.GroupKind()].(rest.RESTUpdateStrategy)
	if !ok {
		return fmt.Errorf("nobody here knows how to update a %s", gvk)
	}

	internal := make([]runtime.Object, 2)
	for i, obj := range []runtime.Object{updated, live} {
		var err error
		internal[i], err = legacyscheme.Scheme.ConvertToVersion(obj.DeepCopyObject(),
			schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
		if err != nil {
			return err
		}
		om, err := meta.Accessor(internal[i])
		if err != nil {
			return err
		}
		om.SetResourceVersion("1")
		om.SetUID("1")
		if om.GetNamespace() == "" && strategy.NamespaceScoped() {
			om.SetNamespace("default")
		}
	}

	om, err := meta.Accessor(internal[0])
	if err != nil {
		return err
	}
	ctx := genericapirequest.WithNamespace(context.Background(), om.GetNamespace())
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: "update",
		APIGroup: gvk.Group, APIVersion: gvk.Version, Resource: plural.Resource,
	})
	return rest.BeforeUpdate(strategy, ctx, internal[0], internal[1])
}

func (c *cluster) remove(name string) {
	delete(c.live, name)
	delete(c.applied, name)
}

func (c *cluster) names() []string { return slices.Sorted(maps.Keys(c.live)) }

// helm is `helm upgrade --install`: objects that a release no longer has go, after
// the others have been applied.
func (c *cluster) helm(docs [][]byte) error {
	before := c.names()
	now, err := c.apply(docs)
	if err != nil {
		return err
	}
	for _, name := range before {
		if !slices.Contains(now, name) {
			c.remove(name)
		}
	}
	return nil
}

// bundle is what runs in the cluster, to be checked.
func (c *cluster) bundle() *Bundle {
	b := &Bundle{}
	for _, name := range c.names() {
		b.Objects = append(b.Objects, c.live[name])
	}
	return b
}

// released are the objects of the chart of an older version, kept as they were.
func released(t *testing.T, name string) [][]byte {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return split(string(doc))
}

// TestChartUpgrades upgrades a release along each path, and wants each step to be
// taken by the API server and to leave nothing of the one before.
func TestChartUpgrades(t *testing.T) {
	deploy := host.CopyDeploy(t)
	now := func(values string) [][]byte {
		t.Helper()
		docs, err := render(deploy, values)
		if err != nil {
			t.Fatalf("%s: %v", values, err)
		}
		return docs
	}

	accounts := twoAccounts + "serviceMonitor: {enabled: true}\n"
	single, several, sharded := now(""), now(accounts), now(accounts+"shards: 3\n")
	more := now(accounts + "shards: 5\n")
	pair := now("replicaCount: 2")
	for _, tc := range []struct {
		name  string
		steps [][][]byte
		last  map[string][]string // the Secrets of the last step
	}{
		{"0.2.0's defaults", [][][]byte{released(t, "helm-0.2.0/defaults.yaml"), single}, handmade},
		{"0.2.0 with accounts", [][][]byte{released(t, "helm-0.2.0/accounts.yaml"), several}, accountSecrets},
		{"0.2.0 with shards", [][][]byte{released(t, "helm-0.2.0/sharded.yaml"), sharded}, accountSecrets},
		{
			"from 0.2.0's defaults to shards and back",
			[][][]byte{released(t, "helm-0.2.0/defaults.yaml"), single, several, sharded, more, sharded, several, single},
			handmade,
		},
		{
			"from 0.2.0's shards to one process", // as the README says, the version first
			[][][]byte{released(t, "helm-0.2.0/sharded.yaml"), sharded, several}, accountSecrets,
		},
		{"to a pair and back", [][][]byte{single, pair, single}, handmade},
		{
			"to a claim and back",
			[][][]byte{released(t, "helm-0.2.0/defaults.yaml"), single, now("persistence: {enabled: true}"), single}, handmade,
		},
		{"to TLS and back", [][][]byte{single, now("webConfig: {existingSecret: web}"), single}, handmade},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster()
			for i, docs := range tc.steps {
				if err := c.helm(docs); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}

			fresh := newCluster()
			if err := fresh.helm(tc.steps[len(tc.steps)-1]); err != nil {
				t.Fatal(err)
			}
			if got, want := c.names(), fresh.names(); !slices.Equal(got, want) {
				t.Errorf("objects %v, want those of a new release: %v", got, want)
			}
			if err := c.bundle().Check(tc.last); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestImmutableFieldsAreSeen wants the updates that 0.2.0 asked for to be refused.
func TestImmutableFieldsAreSeen(t *testing.T) {
	c := newCluster()
	if err := c.helm(released(t, "helm-0.2.0/accounts.yaml")); err != nil {
		t.Fatal(err)
	}
	err := c.helm(released(t, "helm-0.2.0/sharded.yaml"))
	if err == nil || !strings.Contains(err.Error(), "clusterIPs") {
		t.Errorf("error %v, want one of clusterIPs", err)
	}
}

// TestClaimsOfShards begins to keep the state of shards on claims, as the README says.
func TestClaimsOfShards(t *testing.T) {
	deploy := host.CopyDeploy(t)
	before, err := render(deploy, twoAccounts+"shards: 3")
	if err != nil {
		t.Fatal(err)
	}
	after, err := render(deploy, twoAccounts+"shards: 3\npersistence: {enabled: true}")
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster()
	if err := c.helm(before); err != nil {
		t.Fatal(err)
	}
	seen(t, c.helm(after), "Forbidden: updates to statefulset spec")
	c.remove("StatefulSet/twilio-operations-exporter-shard")
	if err := c.helm(after); err != nil {
		t.Fatal(err)
	}
	if err := c.bundle().Check(accountSecrets); err != nil {
		t.Error(err)
	}
}

// removal is a command in README.md that removes what an overlay leaves behind.
var removal = regexp.MustCompile(`(?m)^kubectl --namespace twilio delete ([a-z,]+) (\S+)`)

// TestOverlayToShardsAndBack does what deploy/k8s/README.md says.
func TestOverlayToShardsAndBack(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "deploy", "k8s", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := removal.FindAllStringSubmatch(string(readme), -1)
	if len(commands) != 2 {
		t.Fatalf("README.md has %d commands that remove, want one for each direction", len(commands))
	}
	deploy := host.CopyDeploy(t)
	build := func(name string) [][]byte {
		t.Helper()
		docs, err := kustomize(filepath.Join(deploy, "k8s", "overlays", name))
		if err != nil {
			t.Fatal(err)
		}
		return docs
	}

	c := newCluster()
	if _, err := c.apply(build("example-accounts")); err != nil {
		t.Fatal(err)
	}
	for i, overlay := range []string{"example-sharded", "example-accounts"} {
		for kind := range strings.SplitSeq(commands[i][1], ",") {
			found := false
			for _, name := range c.names() {
				if strings.EqualFold(name, kind+"/"+commands[i][2]) {
					c.remove(name)
					found = true
				}
			}
			if !found {
				t.Errorf("to %s: nothing to remove: %s %s", overlay, kind, commands[i][2])
			}
		}

		docs := build(overlay)
		if _, err := c.apply(docs); err != nil {
			t.Fatalf("to %s: %v", overlay, err)
		}
		fresh := newCluster()
		if _, err := fresh.apply(docs); err != nil {
			t.Fatal(err)
		}
		if got, want := c.names(), fresh.names(); !slices.Equal(got, want) {
			t.Errorf("to %s: objects %v, want %v", overlay, got, want)
		}
		if err := c.bundle().Check(nil); err != nil {
			t.Errorf("to %s: %v", overlay, err)
		}
	}
}
