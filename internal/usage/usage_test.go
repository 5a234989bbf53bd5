package usage

import (
	"testing"

	"github.com/alecthomas/kingpin/v2"
)

func TestMeantFlag(t *testing.T) {
	app := kingpin.New("test", "")
	app.HelpFlag.Short('h')
	app.Flag("collector.interval", "").String()
	app.Flag("collector.page-size", "").String()
	app.Flag("demo", "").Bool()
	app.Flag("collector.hidden", "").Hidden().String()

	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no argument", nil, ""},
		{"known", []string{"--collector.interval=1m", "--no-demo", "-h"}, ""},
		{"cut short", []string{"--interval=1m"}, "collector.interval"},
		{"one dash", []string{"-demo"}, "demo"},
		{"a letter missing", []string{"--collector.intrval"}, "collector.interval"},
		{"letters swapped", []string{"--collector.itnerval"}, "collector.interval"},
		{"dashes for dots, capitals", []string{"--Collector_Page.Size"}, "collector.page-size"},
		{"the first that is unknown", []string{"--demo", "--page-size", "--interval"}, "collector.page-size"},
		{"three letters wrong", []string{"--collector.ixxxrval"}, ""},
		{"too short to tell", []string{"--dxm"}, ""},
		{"hidden", []string{"--collector.hiden"}, ""},
		{"something else", []string{"--surprise"}, ""},
		{"no flag", []string{"demo"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := MeantFlag(app, tt.args); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
