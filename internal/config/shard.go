package config

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// maxShards is far beyond what 10,000 accounts need.
const maxShards = 1000

// Shard is the part of the accounts of a configuration file that a process takes.
type Shard struct {
	Index, Total int // 0 <= Index < Total
}

// owner returns the shard that an account of that name belongs to: the one of the highest hash of name and shard
// (rendezvous hashing). A shard that is added takes names from the others, and none moves between those.
func owner(name string, total int) (shard int) {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:8], xxhash.Sum64String(name))
	var highest uint64
	for i := range total {
		binary.LittleEndian.PutUint64(key[8:], uint64(i)) //nolint:gosec // G115: at most maxShards
		if hash := xxhash.Sum64(key[:]); hash > highest {
			shard, highest = i, hash
		}
	}
	return shard
}

// filter takes out the accounts that do not belong to the shard, and returns a warning where there are none.
func (s Shard) filter(accounts []Account) (own []Account, warnings []string) {
	own = slices.DeleteFunc(accounts, func(a Account) bool { return owner(a.Account, s.Total) != s.Index })
	if len(own) == 0 {
		warnings = []string{fmt.Sprintf("none of the %d accounts belongs to shard %d of %d", len(accounts), s.Index, s.Total)}
	}
	return own, warnings
}

func (o *options) validateShard() error {
	index, total, shard := o.shardIndex, o.shardTotal, &o.config.flags.Shard
	switch err := total.setInt(&shard.Total, 1, maxShards); {
	case err != nil:
		return err
	case index.setInt(&shard.Index, 0, shard.Total-1) != nil:
		return index.bad(fmt.Sprintf("a whole number from 0 that is less than %s, which is %d", total.name, shard.Total))
	case shard.Total > 1 && o.config.configFile == "":
		return fmt.Errorf("%s: more than one shard requires several accounts: use --config.file", total.name)
	}
	return nil
}
