// Package deploy_test checks what deploy/ holds with the programs' own code: the chart is rendered by Helm's, and each
// document decoded, strictly, into the types of Kubernetes and of the Prometheus operator; compose.yaml is loaded by
// compose's. It is a module of its own for what that takes, and runs nothing.
package deploy_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	admission "k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // Helm tells of each symbolic link
	os.Exit(m.Run())
}

const chartDir = "../helm/lhspn"

// valueSets are what operators may set, from nothing to everything.
var valueSets = map[string]string{
	"defaults": ``,
	"everything": `
image: {repository: registry.example.com:5000/push/lhspn, tag: v1.2.3, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
config: {existingSecret: push-config}
credentials: {existingSecrets: [apns-key, firebase]}
database: {existingSecret: push-db, key: address}
masterKey: {existingSecret: push-master, key: key}
extraEnv:
  - {name: LHSPN_LOG_LEVEL, value: debug}
  - {name: LHSPN_APPS_0_APNS_CERTIFICATE_PASSWORD, valueFrom: {secretKeyRef: {name: p12, key: password}}}
autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 9, targetCPUUtilizationPercentage: 60}
shutdown: {delaySeconds: 15, deadlineSeconds: 120}
service: {type: LoadBalancer, port: 443, annotations: {example.com/lb: internal}}
podDisruptionBudget: {maxUnavailable: 25%}
networkPolicy:
  apiFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]
  extraEgress: [{to: [{ipBlock: {cidr: 10.1.0.0/16}}], ports: [{port: 4318, protocol: TCP}]}]
serviceMonitor: {enabled: true, interval: 30s, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
dashboards: {enabled: true}
serviceAccount: {annotations: {example.com/role: push}}
podAnnotations: {example.com/note: "1"}
podLabels: {team: push}
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: push, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}
priorityClassName: high
topologySpread: {whenUnsatisfiable: DoNotSchedule}
`,
	"little": `
database: {existingSecret: ""}
autoscaling: {enabled: false}
replicas: 1
shutdown: {delaySeconds: 0, deadlineSeconds: 1}
migrations: {enabled: false}
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
serviceAccount: {name: existing}
`,
	"closed": `
networkPolicy: {metricsFrom: [], pushPorts: [], databasePort: 3307}
nameOverride: push
serviceMonitor: {enabled: true}
`,
}

// objects are the documents of a rendered chart, by kind and name.
type objects map[string]runtime.Object

// render is helm template, with the check of the values that helm install does.
func render(t *testing.T, text string) (objects, string, error) {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(text), &given); err != nil {
		t.Fatal(err)
	}
	values, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{
		Name: "prod", Namespace: "push", IsInstall: true, Revision: 1,
	}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := (engine.Engine{Strict: true}).Render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	all := objects{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			all.decode(t, name, files[name])
		}
	}
	return all, files["lhspn/templates/NOTES.txt"], nil
}

// decode refuses fields that a type does not have, and duplicates.
func (o objects) decode(t *testing.T, name, text string) {
	t.Helper()
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoring.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	for documents := utilyaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text))); ; {
		document := make([]byte, 1<<20)
		n, err := documents.Read(document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if onlyComments(document[:n]) {
			continue
		}
		object, kind, err := decoder.Decode(document[:n], nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, document[:n])
		}
		meta := object.(interface {
			GetName() string
			GetNamespace() string
			GetLabels() map[string]string
		})
		key := kind.Kind + " " + meta.GetName()
		if o[key] != nil {
			t.Errorf("%s: %s is there twice", name, key)
		}
		if meta.GetNamespace() != "" || meta.GetLabels()["app.kubernetes.io/instance"] != "prod" {
			t.Errorf("%s: %s: namespace %q, labels %v", name, key, meta.GetNamespace(), meta.GetLabels())
		}
		o[key] = object
	}
}

func onlyComments(document []byte) bool {
	for line := range bytes.Lines(document) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func get[T runtime.Object](t *testing.T, o objects, key string) T {
	t.Helper()
	object, is := o[key].(T)
	if !is {
		t.Fatalf("no %s: %v", key, slices.Sorted(maps.Keys(o)))
	}
	return object
}

func mustRender(t *testing.T, text string) objects {
	t.Helper()
	o, _, err := render(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Whatever is set: all is of Kubernetes' types, no pod can do more than the restricted standard allows, each selector
// selects, and nobody is cut off at the end.
func TestEveryValueSet(t *testing.T) {
	t.Parallel()
	restricted, err := security.NewEvaluator(security.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range valueSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mustRender(t, text)
			for key, object := range o {
				var pod *core.PodTemplateSpec
				switch object := object.(type) {
				case *apps.Deployment:
					pod = &object.Spec.Template
				case *batch.Job:
					pod = &object.Spec.Template
				case *core.Secret:
					t.Errorf("%s: secrets are made elsewhere", key)
				}
				if pod == nil {
					continue
				}
				level := admission.LevelVersion{Level: admission.LevelRestricted, Version: admission.LatestVersion()}
				for _, result := range restricted.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
					if !result.Allowed {
						t.Errorf("%s: %s: %s", key, result.ForbiddenReason, result.ForbiddenDetail)
					}
				}
				wantHardened(t, key, &pod.Spec)
			}
			d := deployment(t, o)
			for key, selector := range map[string]map[string]string{
				"the deployment": d.Spec.Selector.MatchLabels,
				"service":        service(t, o, "").Spec.Selector,
				"service ops":    service(t, o, "-ops").Spec.Selector,
				"spread":         d.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
			} {
				if !selects(selector, d.Spec.Template.Labels) {
					t.Errorf("%s selects %v, pods are %v", key, selector, d.Spec.Template.Labels)
				}
			}
			for key, object := range o {
				if job, is := object.(*batch.Job); is &&
					selects(service(t, o, "").Spec.Selector, job.Spec.Template.Labels) {
					t.Errorf("the service sends requests to %s", key)
				}
			}
			env := envOf(&d.Spec.Template.Spec.Containers[0])
			grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
			delay, deadline := parse(t, env["LHSPN_SHUTDOWN_DELAY"]), parse(t, env["LHSPN_SHUTDOWN_DEADLINE"])
			if grace < delay+deadline+5*time.Second {
				t.Errorf("grace period %s for a delay of %s and a deadline of %s", grace, delay, deadline)
			}
		})
	}
}

// wantHardened checks what the restricted standard leaves open.
func wantHardened(t *testing.T, key string, pod *core.PodSpec) {
	t.Helper()
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken ||
		pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Errorf("%s: it has a token, or variables of services", key)
	}
	for i := range pod.Containers {
		c := &pod.Containers[i]
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem ||
			c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: %s: %+v, %+v", key, c.Name, c.SecurityContext, c.Resources)
		}
		for _, mount := range c.VolumeMounts {
			if !mount.ReadOnly || !slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == mount.Name }) {
				t.Errorf("%s: mount %+v", key, mount)
			}
		}
	}
}

func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

func envOf(c *core.Container) map[string]string {
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	return env
}

func parse(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deployment(t *testing.T, o objects) *apps.Deployment {
	t.Helper()
	for key, object := range o {
		if d, is := object.(*apps.Deployment); is {
			return get[*apps.Deployment](t, o, "Deployment "+d.Name)
		} else if strings.HasPrefix(key, "Deployment") {
			t.Fatalf("%s: %T", key, object)
		}
	}
	t.Fatal("no deployment")
	return nil
}

func service(t *testing.T, o objects, suffix string) *core.Service {
	t.Helper()
	return get[*core.Service](t, o, "Service "+deployment(t, o).Name+suffix)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	o := mustRender(t, "")
	got := slices.Sorted(maps.Keys(o))
	want := []string{
		"Deployment prod-lhspn", "HorizontalPodAutoscaler prod-lhspn", "Job prod-lhspn-migrate", "NetworkPolicy prod-lhspn",
		"PodDisruptionBudget prod-lhspn", "Service prod-lhspn", "Service prod-lhspn-ops", "ServiceAccount prod-lhspn",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("made %v, not %v", got, want)
	}
	d := deployment(t, o)
	pod := &d.Spec.Template.Spec
	c := &pod.Containers[0]
	if d.Spec.Replicas != nil {
		t.Error("the deployment and the autoscaler both say how many replicas there are")
	}
	for name, probe := range map[string]*core.Probe{
		"startup /livez": c.StartupProbe, "liveness /livez": c.LivenessProbe, "readiness /readyz": c.ReadinessProbe,
	} {
		if probe == nil || probe.HTTPGet.Port.String() != "ops" || !strings.HasSuffix(name, " "+probe.HTTPGet.Path) {
			t.Errorf("%s: %+v", name, probe)
		}
	}
	// open gives up on a database after two minutes, and says so: the probe must leave it that long
	if c.StartupProbe.FailureThreshold*c.StartupProbe.PeriodSeconds <= 120 {
		t.Errorf("the startup probe ends the start: %+v", c.StartupProbe)
	}
	if env := envOf(c); env["LHSPN_DATABASE_FILE"] != "/run/secrets/lhspn/database/url" ||
		env["LHSPN_MASTER_KEY_FILE"] != "" {
		t.Errorf("variables %v", env)
	}
	if *pod.TerminationGracePeriodSeconds != 35 || pod.ServiceAccountName != "prod-lhspn" ||
		len(pod.TopologySpreadConstraints) != 2 {
		t.Errorf("pod %+v", pod)
	}
	account := get[*core.ServiceAccount](t, o, "ServiceAccount prod-lhspn")
	if account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
		t.Error("the service account's token is mounted")
	}
	scaler := get[*autoscaling.HorizontalPodAutoscaler](t, o, "HorizontalPodAutoscaler prod-lhspn")
	if *scaler.Spec.MinReplicas != 2 || scaler.Spec.MaxReplicas != 6 || scaler.Spec.ScaleTargetRef.Name != d.Name {
		t.Errorf("autoscaler %+v", scaler.Spec)
	}
	budget := get[*policy.PodDisruptionBudget](t, o, "PodDisruptionBudget prod-lhspn")
	if budget.Spec.MaxUnavailable.IntValue() != 1 || !selects(budget.Spec.Selector.MatchLabels, d.Spec.Template.Labels) {
		t.Errorf("disruption budget %+v", budget.Spec)
	}
	net := get[*networking.NetworkPolicy](t, o, "NetworkPolicy prod-lhspn")
	if !selects(net.Spec.PodSelector.MatchLabels, d.Spec.Template.Labels) || len(net.Spec.PolicyTypes) != 2 ||
		len(net.Spec.Ingress) != 2 || len(net.Spec.Ingress[1].From) != 1 || len(net.Spec.Egress) != 3 {
		t.Errorf("network policy %+v", net.Spec)
	}
	job := get[*batch.Job](t, o, "Job prod-lhspn-migrate")
	if job.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" || job.Spec.Template.Spec.ServiceAccountName != "" ||
		!slices.Equal(job.Spec.Template.Spec.Containers[0].Args, []string{"migrate", "--config", "/etc/lhspn/lhspn.yaml"}) {
		t.Errorf("job %+v", job)
	}
	if selects(net.Spec.PodSelector.MatchLabels, job.Spec.Template.Labels) {
		t.Error("the network policy is also for the migration, which runs before there is one")
	}
}

func TestEverythingSet(t *testing.T) {
	t.Parallel()
	o := mustRender(t, valueSets["everything"])
	d := deployment(t, o)
	pod := &d.Spec.Template.Spec
	c := &pod.Containers[0]
	if c.Image != "registry.example.com:5000/push/lhspn@sha256:"+strings.Repeat("0123456789abcdef", 4) {
		t.Errorf("image %s", c.Image)
	}
	if *pod.TerminationGracePeriodSeconds != 145 {
		t.Errorf("grace period %d", *pod.TerminationGracePeriodSeconds)
	}
	sources := pod.Volumes[0].Projected.Sources
	if len(sources) != 3 || sources[0].Secret.Name != "push-config" || sources[1].Secret.Name != "apns-key" {
		t.Errorf("volumes %+v", pod.Volumes)
	}
	if env := envOf(c); env["LHSPN_MASTER_KEY_FILE"] != "/run/secrets/lhspn/master-key/key" ||
		env["LHSPN_DATABASE_FILE"] != "/run/secrets/lhspn/database/address" || env["LHSPN_LOG_LEVEL"] != "debug" {
		t.Errorf("variables %v", env)
	}
	monitor := get[*monitoring.ServiceMonitor](t, o, "ServiceMonitor prod-lhspn")
	ops := service(t, o, "-ops")
	if selector := monitor.Spec.Selector.MatchLabels; !selects(selector, ops.Labels) ||
		selects(selector, service(t, o, "").Labels) ||
		monitor.Spec.Endpoints[0].Port != ops.Spec.Ports[0].Name || monitor.Labels["release"] != "prometheus" {
		t.Errorf("service monitor %+v", monitor)
	}
	rules := get[*monitoring.PrometheusRule](t, o, "PrometheusRule prod-lhspn")
	text, err := os.ReadFile("../alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "- alert: "); n == 0 || len(rules.Spec.Groups[0].Rules) != n {
		t.Errorf("%d rules of %d", len(rules.Spec.Groups[0].Rules), n)
	}
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	if boards := get[*core.ConfigMap](t, o, "ConfigMap prod-lhspn-dashboards"); len(boards.Data) != len(files) {
		t.Errorf("%d dashboards of %d", len(boards.Data), len(files))
	}
}

func TestLittleSet(t *testing.T) {
	t.Parallel()
	o := mustRender(t, valueSets["little"])
	d := deployment(t, o)
	if *d.Spec.Replicas != 1 || d.Spec.Template.Spec.ServiceAccountName != "existing" || len(o) != 3 ||
		*d.Spec.Template.Spec.TerminationGracePeriodSeconds != 11 {
		t.Errorf("made %v, deployment %+v", slices.Sorted(maps.Keys(o)), d.Spec)
	}
	if _, has := envOf(&d.Spec.Template.Spec.Containers[0])["LHSPN_DATABASE_FILE"]; has {
		t.Error("the database's address is in the configuration")
	}
}

// Wrong values never reach the cluster.
func TestBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`replica: 3`:                   "replica",
		`replicas: 0`:                  "replicas",
		`replicas: "2"`:                "replicas",
		`config: {existingSecret: ""}`: "existingSecret",
		`config: {file: "apps: []"}`:   "file",
		`database: {url: "mysql://u:hunter2@tcp(h)/d"}`:                              "url",
		`database: {existingSecret: Not_A_Name}`:                                     "existingSecret",
		`masterKey: {existingSecret: a, value: b}`:                                   "value",
		`image: {digest: sha256:abc}`:                                                "digest",
		`image: {tag: "a b"}`:                                                        "tag",
		`shutdown: {delaySeconds: -1}`:                                               "delaySeconds",
		`shutdown: {deadlineSeconds: 601}`:                                           "deadlineSeconds",
		`service: {type: ExternalName}`:                                              "type",
		`service: {port: 70000}`:                                                     "port",
		`podDisruptionBudget: {maxUnavailable: 0}`:                                   "maxUnavailable",
		`networkPolicy: {databasePort: mysql}`:                                       "databasePort",
		`autoscaling: {enabled: "yes"}`:                                              "enabled",
		`topologySpread: {whenUnsatisfiable: Never}`:                                 "whenUnsatisfiable",
		`goMemLimit: 1G`:                                                             "goMemLimit",
		`extraEnv: [{name: LHSPN_DATABASE, value: "mysql://u:hunter2@tcp(h)/d"}]`:    "extraEnv",
		`extraEnv: [{name: LHSPN_APPS_0_APNS_CERTIFICATE_PASSWORD, value: hunter2}]`: "extraEnv",
		`extraEnv: [{name: LHSPN_LOG_LEVEL}]`:                                        "extraEnv",
		`extraEnv: [{name: LHSPN_LOG_LEVEL, value: a, valueFrom: {}}]`:               "extraEnv",
		`serviceMonitor: {interval: 15}`:                                             "interval",
	} {
		if _, _, err := render(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	_, notes, err := render(t, valueSets["everything"])
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{
		"push-config", "push-db, key address", "apns-key", "firebase", "push-master, key key",
	} {
		if !strings.Contains(notes, secret) {
			t.Errorf("the notes do not name %s:\n%s", secret, notes)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	for name, text := range valueSets {
		values := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.All(chartDir, values, "push", true).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %s", name, m)
			}
		}
	}
}
