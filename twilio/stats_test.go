package twilio

import "testing"

// Every stat has a row with a member, a name and a help of its own.
func TestEveryStatHasARow(t *testing.T) {
	seen := map[string]Stat{}
	for stat, row := range MessageStats {
		if row.JSON == "" || row.Name == "" || row.Help == "" {
			t.Errorf("stat %d has no whole row: %+v", stat, row)
		}
		for _, text := range []string{"member " + row.JSON, "name " + row.Name, "help " + row.Help} {
			if other, ok := seen[text]; ok {
				t.Errorf("stats %d and %d share the %s", other, stat, text)
			}
			seen[text] = Stat(stat)
		}
	}
}
