package manifests

// What the exporter offers, as far as manifests can name it.
const (
	ImageName  = "twilio-operations-exporter" // less registry and version
	JobName    = "twilio_operations"          // the job label, wherever it is scraped
	ListenPort = 9861
	UserID     = 65532 // of the image, and its group

	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
	metricsPath = "/metrics"
	probePath   = "/probe"
)

// SchemaFile is the JSON Schema of the configuration file, relative to the root of the repository.
const SchemaFile = "deploy/accounts.schema.json"

// Flags returns the exporter's flags, sorted.
var Flags = []string{
	"--backfill",
	"--collector.concurrency",
	"--collector.failure-samples",
	"--collector.interval",
	"--collector.max-age",
	"--collector.max-staleness",
	"--collector.named-operations",
	"--collector.operation-tags",
	"--collector.page-size",
	"--collector.refresh-timeout",
	"--collector.window",
	"--config.auto-reload",
	"--config.auto-reload-interval",
	"--config.check",
	"--config.file",
	"--demo",
	"--help",
	"--log.format",
	"--log.level",
	"--once",
	"--shard.index",
	"--shard.total",
	"--storage.path",
	"--twilio.account-sid",
	"--twilio.api-key",
	"--twilio.api-secret-file",
	"--twilio.auth-token-file",
	"--twilio.base-url",
	"--twilio.max-retries",
	"--twilio.rate-limit",
	"--twilio.resource",
	"--twilio.timeout",
	"--version",
	"--web.config.file",
	"--web.enable-lifecycle",
	"--web.enable-pprof",
	"--web.health-listen-address",
	"--web.listen-address",
	"--web.scrape-timeout-offset",
	"--web.systemd-socket",
	"--web.telemetry-path",
}

// Environment returns the variables that the exporter and its runtime read.
var Environment = []string{
	"GOMAXPROCS",
	"GOMEMLIMIT",
	"TWILIO_ACCOUNT_SID",
	"TWILIO_API_KEY",
	"TWILIO_API_SECRET",
	"TWILIO_AUTH_TOKEN",
	"TWILIO_BASE_URL",
	"TWILIO_SHARD_INDEX",
	"TWILIO_SHARD_TOTAL",
}
