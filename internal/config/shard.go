package config

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// maxShards is far beyond what 10,000 accounts need.
const maxShards = 1000

// Shard is one process's part of the accounts in a configuration file.
type Shard struct {
	Index, Total int // 0 <= Index < Total
}

// owner returns the shard that the account with this name belongs to: the one with the highest hash of name and shard
// (rendezvous hashing). A new shard takes accounts from the others, which exchange none.
func owner(name string, total int) (shard int) {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:8], xxhash.Sum64String(name))

	var highest uint64
	for i := range total {
		binary.LittleEndian.PutUint64(key[8:], uint64(i)) //nolint:gosec // G115: at most maxShards
		hash := xxhash.Sum64(key[:])
		if hash > highest {
			highest = hash
			shard = i
		}
	}
	return shard
}

// filter returns the accounts that belong to the shard, and a warning if there are none.
func (s Shard) filter(accounts []Account) (own []Account, warnings []string) {
	own = slices.DeleteFunc(accounts, func(a Account) bool { return owner(a.Account, s.Total) != s.Index })
	if len(own) == 0 {
		warnings = []string{fmt.Sprintf("none of the %d accounts belongs to shard %d of %d", len(accounts), s.Index, s.Total)}
	}
	return own, warnings
}

func (o *options) validateShard() error {
	shard := &o.config.flags.Shard
	err := o.shardTotal.setInt(&shard.Total, 1, maxShards)
	if err != nil {
		return err
	}

	total := o.shardTotal.name
	err = o.shardIndex.setInt(&shard.Index, 0, shard.Total-1)
	if err != nil {
		return o.shardIndex.bad(fmt.Sprintf("a whole number from 0 that is less than %s, which is %d", total, shard.Total))
	}
	if shard.Total > 1 && o.config.configFile == "" {
		return fmt.Errorf("%s: more than one shard requires several accounts: use --config.file", total)
	}
	return nil
}
