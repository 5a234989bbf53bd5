package account

import "slices"

// paceKey names an account of Twilio at an API: all that is asked of it has one pace.
type paceKey struct{ sid, baseURL string }

func (a *Account) paceKey() paceKey { return paceKey{a.config.AccountSID, a.config.BaseURL.String()} }

// sharePace has accounts of one SID, such as its messages and its e-mails, keep to one pace and one cooldown together:
// those of the first of them in list. Those that are new have made no request yet.
func sharePace(list, isNew []*Account) {
	leaders := map[paceKey]*Account{}
	for _, a := range list {
		if leaders[a.paceKey()] == nil && !slices.Contains(isNew, a) {
			leaders[a.paceKey()] = a
		}
	}
	for _, a := range isNew {
		leader := leaders[a.paceKey()]
		if leader == nil {
			leaders[a.paceKey()] = a
			continue
		}
		a.client.SharePace(leader.client)
	}

	paced := map[paceKey]bool{}
	for _, a := range list {
		if !paced[a.paceKey()] {
			paced[a.paceKey()] = true
			a.client.SetPace(a.config.RateLimit, a.config.Concurrency)
		}
	}
}
