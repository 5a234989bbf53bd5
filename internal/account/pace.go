package account

import "slices"

// paceKey identifies an account at Twilio. All requests for it share one pace.
type paceKey struct{ sid, baseURL string }

func (a *Account) paceKey() paceKey { return paceKey{a.config.AccountSID, a.config.BaseURL.String()} }

// sharePace makes accounts with the same SID, such as its messages and its e-mails, share one pace and one cooldown.
// The limits are those of the first of them in list. Accounts in isNew must not have made a request yet.
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
