package config

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// TestOwner checks that shards are balanced, and that a new shard takes accounts from the others, which exchange none.
func TestOwner(t *testing.T) {
	const names = 10_000
	// near allows five standard deviations of what is spread evenly by chance.
	near := func(n int, share float64) bool {
		return math.Abs(float64(n)-names*share) <= 5*math.Sqrt(names*share*(1-share))
	}
	for kind, nameOf := range map[string]func(int) string{
		"numbered": func(i int) string { return "account-" + strconv.Itoa(i) },
		"SIDs":     func(i int) string { return fmt.Sprintf("AC%032x", i) },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name, owners := make([]string, names), make([]int, names) // all of shard 0
			for i := range name {
				name[i] = nameOf(i)
			}
			for total := 2; total <= 64; total++ {
				counts, moved := make([]int, total), 0
				for i := range names {
					to := owner(name[i], total)
					counts[to]++
					if to != owners[i] {
						moved++
						if to != total-1 {
							t.Fatalf("%s moves from shard %d to %d as shard %d is added", name[i], owners[i], to, total-1)
						}
					}
					owners[i] = to
				}

				if !near(moved, 1/float64(total)) {
					t.Errorf("%d names move to the last of %d shards", moved, total)
				}
				for shard, n := range counts {
					if !near(n, 1/float64(total)) {
						t.Errorf("shard %d of %d has %d names", shard, total, n)
					}
				}
			}
		})
	}
}

// TestOwnerIsStable checks that processes of different versions agree.
func TestOwnerIsStable(t *testing.T) {
	var got []int
	for _, name := range []string{"marketing", "alerts", testutil.SID, "Zürich"} {
		got = append(got, owner(name, 2), owner(name, 7), owner(name, 64))
	}
	if want := []int{1, 3, 51, 1, 6, 43, 1, 3, 3, 0, 2, 45}; !slices.Equal(got, want) {
		t.Errorf("owners %v, want %v", got, want)
	}
}

// TestShards checks that each account belongs to exactly one shard, at startup and after a reload, and that a shard
// without accounts is valid.
func TestShards(t *testing.T) {
	testutil.SetEnv(t, nil)
	token := testutil.WriteFile(t, "token", testutil.Token)
	var yml strings.Builder
	yml.WriteString("accounts:\n")
	for i := range 20 {
		fmt.Fprintf(&yml, "- {name: a%d, account_sid: %s, auth_token_file: %s}\n", i, testutil.SID, token)
	}
	file := testutil.WriteFile(t, "accounts.yml", yml.String())

	for _, total := range []int{1, 3, 64} {
		loaded, reloaded, empty := map[string]int{}, map[string]int{}, 0
		for i := range total {
			c, err := Load(
				[]string{"--config.file", file, fmt.Sprintf("--shard.index=%d", i), fmt.Sprintf("--shard.total=%d", total)},
				io.Discard,
			)
			if err != nil {
				t.Fatal(err)
			}
			if c.Flags().Shard != (Shard{i, total}) || c.InFile() != 20 {
				t.Errorf("shard %+v of %d accounts", c.Flags().Shard, c.InFile())
			}
			for _, a := range c.Accounts() {
				loaded[a.Account]++
			}
			again, err := c.Reload()
			if err != nil {
				t.Fatal(err)
			}
			if again.InFile != 20 {
				t.Errorf("%d accounts after a reload", again.InFile)
			}
			for _, a := range again.Accounts {
				reloaded[a.Account]++
			}
			none := slices.ContainsFunc(
				c.Warnings(),
				func(w string) bool { return strings.HasPrefix(w, "none of the 20 accounts belongs to shard ") },
			)

			if none != (len(again.Accounts) == 0) {
				t.Errorf("shard %d of %d with %d accounts: warnings %q", i, total, len(again.Accounts), c.Warnings())
			}
			if len(again.Accounts) == 0 {
				empty++
			}
		}

		for _, names := range []map[string]int{loaded, reloaded} {
			for i := range 20 {
				if n := names[fmt.Sprintf("a%d", i)]; n != 1 {
					t.Errorf("%d shards have account a%d %d times", total, i, n)
				}
			}
		}

		if total == 64 && empty == 0 {
			t.Error("20 accounts on 64 shards, and none is without")
		}
	}
}
