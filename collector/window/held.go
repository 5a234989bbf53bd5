package window

import (
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

// A refresh holds the ids of the operations in flight, and of those in the lists that it has not read to their end, so that
// each counts once. They take some 25 bytes each.
const (
	ownRoom    = 100_000 // ids that each window may hold
	sharedRoom = 400_000 // ids that all windows of the process may hold together beyond that
)

// room is what is left of sharedRoom. One for all accounts lets one of them have a day of 5 operations a second scheduled
// ahead, and bounds the memory of lists without end.
var room = semaphore.NewWeighted(sharedRoom)

// held counts the ids that a refresh holds.
type held struct {
	ids    int
	shared int // of them, those in the shared room
}

// add counts more ids. It returns a *TooManyError if there is no room for them; they are to be dropped all the same.
func (h *held) add(ids int) error {
	h.ids += ids
	more := h.ids - ownRoom - h.shared
	if more <= 0 {
		return nil
	}
	if !room.TryAcquire(int64(more)) {
		return &TooManyError{Held: true, Most: h.ids - ids}
	}
	h.shared += more
	return nil
}

// drop counts fewer ids.
func (h *held) drop(ids int) {
	h.ids -= ids
	spare := h.shared - max(0, h.ids-ownRoom)
	if spare > 0 {
		room.Release(int64(spare))
		h.shared -= spare
	}
}

// A sender that is busy without pause makes 10 operations a second, each of them to up to 10,000 recipients.
const (
	maxPerMinute     = 1200    // operations: twice those of a busy sender
	minMaxOperations = 100_000 // MaxOperations of a short window
)

// MaxOperations is how many operations a refresh of a window lists, at most: 20 for each second of the window, but
// 100,000 at least.
func MaxOperations(length time.Duration) int {
	return max(minMaxOperations, maxPerMinute*int(length/time.Minute))
}

// TooManyError ends a refresh in which the API has listed more operations than an account is expected to have, such as in
// a list that does not end.
type TooManyError struct {
	Held bool // whether those held at a time were too many, or all together
	Most int  // operations, up to which there was room
}

// Error implements error.
func (e *TooManyError) Error() string {
	if e.Held {
		return fmt.Sprintf("the API listed more than %d operations in flight or in lists without end: there is no room for more", e.Most)
	}
	return fmt.Sprintf("the API listed more than %d operations, the most that are read of the window", e.Most)
}
