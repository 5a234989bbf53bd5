// Alerts, rules and dashboards for who builds them with jsonnet, made of the files
// that everybody else takes as they are.
local files = [
  importstr '../prometheus/rules/alerts.yml',
  importstr '../prometheus/rules/links.yml',
  importstr '../prometheus/rules/recording.yml',
  importstr '../prometheus/rules/shards.yml',
  importstr '../prometheus/rules/thresholds.yml',
];
local groups = std.flatMap(function(text) std.parseYaml(text).groups, files);
local alerts(group) = std.any([std.objectHas(rule, 'alert') for rule in group.rules]);

{
  local config = self._config,

  _config+:: {
    // Where the links of alerts lead: the published pages of deploy/runbooks, and
    // Grafana, and the exporter's own page; without a slash at the end.
    runbookBase: '',
    dashboardBase: '',
    landingBase: '',

    // In place of those of thresholds.yml, by the name of the record: a number, or
    // one by severity or account, as in
    //   {'twilio:messages_failed_share:threshold': {warning: 0.02, critical: 0.05}}
    thresholds: {},
  },

  // Of a threshold, what its labels choose; the same rule, unless there is another.
  local threshold(rule) =
    local given = std.get(config.thresholds, rule.record);
    local label = std.objectValues(std.get(rule, 'labels', {}));
    local value =
      if !std.isObject(given) then given
      else if std.length(label) == 1 then std.get(given, label[0]);
    if value == null then rule else rule { expr: 'vector(%g)' % value },

  local links(rule) = rule {
    labels: { runbook_base: config.runbookBase, dashboard_base: config.dashboardBase, landing_base: config.landingBase },
  },

  local change(rule) =
    if std.get(rule, 'record') == 'twilio:links:info' then links(rule)
    else if std.objectHas(rule, 'record') then threshold(rule)
    else rule,

  prometheusAlerts+:: {
    groups+: [group for group in groups if alerts(group)],
  },

  prometheusRules+:: {
    groups+: [
      group { rules: [change(rule) for rule in group.rules] }
      for group in groups
      if !alerts(group)
    ],
  },

  grafanaDashboards+:: {
    'twilio-operations.json': import '../grafana/dashboards/operations.json',
    'twilio-operations-campaign.json': import '../grafana/dashboards/campaign.json',
    'twilio-operations-exporter.json': import '../grafana/dashboards/exporter.json',
  },
}
