package config

import (
	"io"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// TestHealthcheck checks which URL is asked, whatever accounts the environment has.
func TestHealthcheck(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"default":                {nil, "http://localhost:9861/-/healthy"},
		"port":                   {[]string{":8080"}, "http://localhost:8080/-/healthy"},
		"address":                {[]string{"127.0.0.1:8080"}, "http://127.0.0.1:8080/-/healthy"},
		"host":                   {[]string{"exporter:8080"}, "http://exporter:8080/-/healthy"},
		"all addresses":          {[]string{"0.0.0.0:8080"}, "http://localhost:8080/-/healthy"},
		"all IPv6 addresses":     {[]string{"[::]:8080"}, "http://localhost:8080/-/healthy"},
		"IPv6":                   {[]string{"[::1]:8080"}, "http://[::1]:8080/-/healthy"},
		"URL":                    {[]string{"https://exporter"}, "https://exporter/-/healthy"},
		"URL with a slash":       {[]string{"http://exporter:8080/"}, "http://exporter:8080/-/healthy"},
		"URL with a path":        {[]string{"http://exporter:8080/-/ready"}, "http://exporter:8080/-/ready"},
		"the listening address":  {[]string{"--web.listen-address=:8080"}, "http://localhost:8080/-/healthy"},
		"the health listener":    {[]string{"--web.health-listen-address=:8081"}, "http://localhost:8081/-/healthy"},
		"flags of all else":      {[]string{"--config.file=nowhere", "--twilio.timeout=never"}, "http://localhost:9861/-/healthy"},
		"argument before a flag": {[]string{":8080", "--log.level=debug"}, "http://localhost:8080/-/healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, map[string]string{"TWILIO_ACCOUNT_SID": "nonsense"})
			c, err := Load(append([]string{"healthcheck"}, tc.args...), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Flags().Healthcheck; got == nil || got.String() != tc.want {
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
}

func TestHealthcheckErrors(t *testing.T) {
	for name, address := range map[string]string{
		"no port":       ":",
		"scheme":        "ftp://exporter:8080",
		"port":          "exporter:99999",
		"two lines":     "a\nb",
		"no URL at all": "http://[::1",
		"vsock":         "vsock://:9100",
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, nil)
			_, err := Load([]string{"healthcheck", address}, io.Discard)
			if err == nil {
				t.Fatal("no error")
			}
			checkError(t, err)
		})
	}
}
