// Package compose holds deploy/compose.yaml to the Compose specification and to
// the files that it mounts.
package compose

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests"
	"twilio_operations_exporter/e2e/manifests/internal/host"
)

func load(t *testing.T, deploy string) (*types.Project, error) {
	t.Helper()
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  deploy,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(deploy, "compose.yaml")}},
	})
}

// healthcheck is what the Dockerfile has.
var healthcheck = types.HealthCheckTest{"CMD", "/usr/bin/twilio_operations_exporter", "healthcheck"}

// homeDir is the one directory of the image's base that its user owns, and so the
// only one where Docker gives the user a new volume.
const homeDir = "/home/nonroot"

// check holds a project against the files beside it.
func check(p *types.Project) error {
	var errs []error
	addf := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	for name := range p.Services {
		s := p.Services[name]
		_, tag, _ := strings.Cut(filepath.Base(s.Image), ":")
		if tag == "" || tag == "latest" {
			addf("%s: image %q is not pinned", name, s.Image)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
			addf("%s: not hardened", name)
		}

		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				addf("%s: %w", name, err)
			}
			if !v.ReadOnly {
				addf("%s: %s can be written", name, v.Target)
			}
		}

		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				addf("%s: port %s is open to the network", name, port.Published)
			}
		}

		for _, arg := range s.Command {
			flag, file, _ := strings.Cut(arg, "=")
			if flag == "--config.file" {
				if _, ok := hostPath(&s, file); !ok {
					addf("%s: %s: nothing is mounted there", name, arg)
				}
			}
		}
	}

	for name := range p.Services {
		s := p.Services[name]
		for other, d := range s.DependsOn {
			check := p.Services[other].HealthCheck
			if d.Condition == types.ServiceConditionHealthy && (check == nil || check.Disable) {
				addf("%s: waits for the health of %s, which nobody checks", name, other)
			}
		}
	}

	prometheus := p.Services["prometheus"]
	if d, ok := prometheus.DependsOn["exporter"]; !ok || d.Condition != types.ServiceConditionHealthy {
		addf("prometheus: does not wait for a healthy exporter")
	}

	exporter := p.Services["exporter"]
	for _, arg := range exporter.Command {
		dir, ok := strings.CutPrefix(arg, "--storage.path=")
		kept := func(v types.ServiceVolumeConfig) bool {
			return v.Type == types.VolumeTypeVolume && v.Target == dir && !v.ReadOnly
		}
		switch {
		case ok && !slices.ContainsFunc(exporter.Volumes, kept):
			addf("exporter: %s: no volume is there", arg)
		case ok && dir != homeDir:
			addf("exporter: %s: a new volume belongs to root but at %s", arg, homeDir)
		}
	}

	if c := exporter.HealthCheck; c != nil && !slices.Equal(c.Test, healthcheck) {
		addf("exporter: the health check is %q, in the Dockerfile %q", c.Test, healthcheck)
	}
	if base, _, _ := strings.Cut(filepath.Base(exporter.Image), ":"); base != manifests.ImageName {
		addf("exporter: image %q, want %s", exporter.Image, manifests.ImageName)
	}

	for _, arg := range exporter.Command {
		if flag, _, _ := strings.Cut(arg, "="); !slices.Contains(manifests.Flags, flag) {
			addf("exporter: no such flag: %s", arg)
		}
	}

	errs = append(errs, checkTargets(p), checkGrafana(p), checkLinks(p))
	return errors.Join(errs...)
}

// hostPath is where a file inside a service comes from.
func hostPath(s *types.ServiceConfig, file string) (string, bool) {
	best, source := "", ""
	for _, v := range s.Volumes {
		rel, err := filepath.Rel(v.Target, file)
		if v.Type == types.VolumeTypeBind && err == nil && !strings.HasPrefix(rel, "..") && len(v.Target) > len(best) {
			best, source = v.Target, filepath.Join(v.Source, rel)
		}
	}
	_, err := os.Stat(source)
	return source, best != "" && err == nil
}

// reachable wants an address to be a service's, by its name, and of a port that
// it publishes, which are the ports that they listen on here.
func reachable(p *types.Project, address string) error {
	name, port, _ := strings.Cut(address, ":")
	s, ok := p.Services[name]
	if !ok {
		return fmt.Errorf("%s: no such service", address)
	}
	if !slices.ContainsFunc(s.Ports, func(c types.ServicePortConfig) bool { return strconv.Itoa(int(c.Target)) == port }) {
		return fmt.Errorf("%s: no such port", address)
	}
	return nil
}

// checkTargets follows Prometheus' configuration to the others' addresses.
func checkTargets(p *types.Project) error {
	type discovery struct {
		FileSD []struct {
			Files []string `json:"files"`
		} `json:"file_sd_configs"`
	}

	var config struct {
		Alerting struct {
			Alertmanagers []discovery `json:"alertmanagers"`
		} `json:"alerting"`
		Scrape []struct {
			JobName string `json:"job_name"`
			discovery
		} `json:"scrape_configs"`
	}

	prometheus := p.Services["prometheus"]
	if err := readYAML(&prometheus, "/etc/prometheus/prometheus.yml", &config); err != nil {
		return err
	}
	all := config.Alerting.Alertmanagers
	var errs []error
	job := false
	for _, s := range config.Scrape {
		all = append(all, s.discovery)
		job = job || s.JobName == manifests.JobName
	}

	if !job {
		errs = append(errs, fmt.Errorf("prometheus.yml: no job %s, which the ServiceMonitor makes", manifests.JobName))
	}
	n := 0
	for _, d := range all {
		for _, sd := range d.FileSD {
			for _, f := range sd.Files {
				var groups []struct {
					Targets []string `json:"targets"`
				}
				if err := readYAML(&prometheus, "/etc/prometheus/"+f, &groups); err != nil {
					errs = append(errs, err)
				}
				for _, g := range groups {
					for _, address := range g.Targets {
						n++
						errs = append(errs, reachable(p, address))
					}
				}
			}
		}
	}

	if n < 2 {
		errs = append(errs, fmt.Errorf("prometheus.yml: %d targets in files, want the exporter and Alertmanager", n))
	}
	return errors.Join(errs...)
}

// checkGrafana follows Grafana's provisioning to dashboards and Prometheus.
func checkGrafana(p *types.Project) error {
	grafana := p.Services["grafana"]
	dir, ok := hostPath(&grafana, "/etc/grafana/provisioning")
	if !ok {
		return errors.New("grafana: no provisioning")
	}
	var errs []error
	sources, dashboards := 0, 0
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.y*ml"))
	if err != nil {
		return err
	}

	for _, f := range files {
		var config struct {
			Datasources []struct {
				URL string `json:"url"`
			} `json:"datasources"`
			Providers []struct {
				Options struct {
					Path string `json:"path"`
				} `json:"options"`
			} `json:"providers"`
		}

		doc, err := os.ReadFile(f)
		if err == nil {
			err = yaml.Unmarshal(doc, &config)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f, err))
		}

		for _, d := range config.Datasources {
			sources++
			u, err := url.Parse(os.Expand(d.URL, func(name string) string {
				if v := grafana.Environment[name]; v != nil {
					return *v
				}
				return ""
			}))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, reachable(p, u.Host))
		}

		for _, d := range config.Providers {
			found, ok := hostPath(&grafana, d.Options.Path)
			if !ok {
				errs = append(errs, fmt.Errorf("%s: nothing is mounted at %s", filepath.Base(f), d.Options.Path))
				continue
			}
			jsons, err := filepath.Glob(filepath.Join(found, "*.json"))
			dashboards += len(jsons)
			errs = append(errs, err)
		}
	}

	if _, ok := hostPath(&grafana, "/usr/share/grafana/public/runbooks/README.md"); !ok {
		errs = append(errs, errors.New("grafana: no runbooks where the dashboards' links lead"))
	}
	if sources != 1 || dashboards == 0 {
		errs = append(errs, fmt.Errorf("grafana: %d data sources and %d dashboards", sources, dashboards))
	}
	return errors.Join(errs...)
}

// checkLinks wants the links of alerts to lead to Grafana as it is published, and
// to the runbooks that it serves.
func checkLinks(p *types.Project) error {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Labels map[string]string `json:"labels"`
			} `json:"rules"`
		} `json:"groups"`
	}

	prometheus, grafana := p.Services["prometheus"], p.Services["grafana"]
	if err := readYAML(&prometheus, "/etc/prometheus/rules/links.yml", &rules); err != nil {
		return err
	}
	base := "http://localhost:" + grafana.Ports[0].Published
	exporter := p.Services["exporter"]
	want := map[string]string{
		"dashboard_base": base, "runbook_base": base + "/public/runbooks",
		"landing_base": "http://localhost:" + exporter.Ports[0].Published,
	}

	if len(rules.Groups) != 1 || len(rules.Groups[0].Rules) != 1 || !maps.Equal(rules.Groups[0].Rules[0].Labels, want) {
		return fmt.Errorf("prometheus: the links of alerts are %v, want %v", rules.Groups, want)
	}
	return nil
}

func readYAML(s *types.ServiceConfig, file string, into any) error {
	path, ok := hostPath(s, file)
	if !ok {
		return fmt.Errorf("%s: nothing is mounted at %s", s.Name, file)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return yaml.Unmarshal(doc, into)
}

func TestCompose(t *testing.T) {
	p, err := load(t, filepath.Join(host.Root(t), "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(p); err != nil {
		t.Error(err)
	}
	var names []string
	for name := range p.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"alertmanager", "exporter", "grafana", "prometheus"}; !slices.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
}

func verdict(t *testing.T, deploy string) error {
	t.Helper()
	p, err := load(t, deploy)
	if err != nil {
		return err
	}
	return check(p)
}

func TestMistakesAreSeen(t *testing.T) {
	for _, tc := range []struct{ name, file, old, new, want string }{
		{"misspelled key", "compose.yaml", "    command:\n      - --demo", "    comand:\n      - --demo", "comand"},
		{"wrong type", "compose.yaml", "read_only: true", "read_only: maybe", "read_only"},
		{"volume not declared", "compose.yaml", "- prometheus:/prometheus", "- tsdb:/prometheus", "undefined volume tsdb"},
		{"directory that is not there", "compose.yaml", "- ./alertmanager:", "- ./alertmanagers:", "no such file"},
		{
			"configuration in no mount", "compose.yaml", "--config.file=/etc/alertmanager/", "--config.file=/etc/",
			"nothing is mounted there",
		},
		{
			"state on no volume", "compose.yaml", "exporter:/home/nonroot", "exporter:/var/lib/exporter", "no volume is there",
		},
		{
			"state that cannot be written", "compose.yaml",
			"--storage.path=/home/nonroot\n    # A directory that the image's user owns, and so owns the volume.\n    volumes:\n      - exporter:/home/nonroot",
			"--storage.path=/state\n    volumes:\n      - exporter:/state", "belongs to root",
		},
		{
			"health that nobody checks", "compose.yaml", "test: [CMD, /usr/bin/twilio_operations_exporter, healthcheck]",
			"disable: true", "which nobody checks",
		},
		{
			"health check with a shell", "compose.yaml", "test: [CMD, /usr/bin/twilio_operations_exporter, healthcheck]",
			"test: curl localhost:9861", "the health check is",
		},
		{
			"Prometheus before the exporter", "compose.yaml", "condition: service_healthy", "condition: service_started",
			"does not wait",
		},
		{"unknown flag", "compose.yaml", "- --demo\n", "- --demonstrate\n", "no such flag"},
		{"open to the network", "compose.yaml", "- 127.0.0.1:9090:", "- 9090:", "open to the network"},
		{"not pinned", "compose.yaml", "grafana/grafana:13.2.3", "grafana/grafana:latest", "not pinned"},
		{
			"target of another place", "compose/targets/exporter.yml", "exporter:", "localhost:",
			"localhost:9861: no such service",
		},
		{"target of another port", "compose/targets/alertmanager.yml", "9093", "9094", "alertmanager:9094: no such port"},
		{"another job", "prometheus/prometheus.yml", "job_name: " + manifests.JobName, "job_name: other", "no job"},
		{
			"Grafana without Prometheus", "compose.yaml", "PROMETHEUS_URL: http://prometheus:9090",
			"PROMETHEUS_URL: http://localhost:9090", "localhost:9090: no such service",
		},
		{"Grafana without an address", "compose.yaml", "PROMETHEUS_URL: ", "OTHER_URL: ", "no such service"},
		{"links to nowhere", "compose.yaml", "      - ./compose/links.yml:/etc/prometheus/rules/links.yml:ro\n", "", "links of alerts"},
		{"Grafana on another port", "compose.yaml", "127.0.0.1:3000:3000", "127.0.0.1:3001:3000", "links of alerts"},
		{"runbooks elsewhere", "compose.yaml", "public/runbooks:ro", "runbooks:ro", "no runbooks"},
		{"dashboards elsewhere", "compose.yaml", ":/etc/grafana/dashboards:", ":/etc/dashboards:", "nothing is mounted at"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			deploy := host.CopyDeploy(t)
			file := filepath.Join(deploy, tc.file)
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(doc), tc.old) {
				t.Fatalf("%s does not hold %q: the mistake cannot be made", tc.file, tc.old)
			}
			err = os.WriteFile(file, []byte(strings.Replace(string(doc), tc.old, tc.new, 1)), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			err = verdict(t, deploy)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
