package tokens

import (
	"testing"

	"github.com/lhspn/lhspn/internal/database"
	"github.com/lhspn/lhspn/internal/database/dbtest"
)

// What is left out of an INSERT because it is the default is the default of the table.
func TestDefaultsAreTheSchemas(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		dbtest.SameDefaults(t, db, "device_tokens", newDefaults)
	})
}
