package api

// What the examples of calls are about. Dev mode has them, so that each call works as it is.
const (
	ExampleToken = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef"
	ExampleApp   = "hedgehog"
	ExampleKey   = "backend"
)

// The examples of bodies work as they are: against dev mode a test sends each. The one of an app has a key that was
// made for it and signs nothing; the one of an app's key is of another than ExampleKey, which is there.

const (
	exampleRegistration = `{"badge": 0, "user_id": "demo", "tags": ["beta"], "app_version": "1.2.3", "os_version": "18.1",
		"device_model": "iPhone17,1", "locale": "de_AT", "time_zone": "Europe/Vienna"}`
	exampleNewToken = `{"platform": "apns", "token": "` + ExampleToken + `", "tags": ["beta"]}`
	exampleBadge    = `{"badge": 0}`
	exampleImport   = `"{\"token\": \"` + ExampleToken + `\", \"tags\": [\"beta\"], ` +
		`\"last_updated\": \"2026-01-02T03:04:05Z\"}\n"`
	exampleNotification = `{"name": "first", "to": {"users": ["demo"]}, "message": {"title": "Hello", "body": "World"}}`
	exampleBatch        = `{"notifications": [` + exampleNotification + `,
		{"to": {"tokens": ["` + ExampleToken + `"]}, "aps": {"alert": {"title": "Hello", "body": "World"}, "sound": "default"}}]}`
	exampleReceipt = `{"ticket": "AZobdmE9fG2ZbL0lEhEKOXRF1mZ4yHeb2k5nUjvR0n4wV2Xb8m3HkA", "event": "delivered"}`
	exampleKey     = `{"name": "worker", "scope": "send", "expires_at": "2040-01-31T12:00:00Z"}`
	exampleApp     = `{"apns": {"topic": "com.example.hedgehog", "key": "` +
		`LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VBTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEJHMH` +
		`dhd0lCQVFRZ3U3bTJiNE5XU3EzblIvajgKa2ZUOTNWVVZUQzRhbXpUdGRkQXhWMkJ3UUF1aFJBTkNBQVNCMmxnQVQ2` +
		`enZGUnJBb0dkN0lDcGxibUhkZitqNAp4Y2lrQWg4clhTNnVIcHlucFB4ZlFTTzQ2eXd2OFVESktMVlVQWTJCclBkUm` +
		`5pZERhWWxHY1ZZbgotLS0tLUVORCBQUklWQVRFIEtFWS0tLS0tCg==", ` +
		`"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}, "quotas": {"max_tokens": 500000}}`
)
