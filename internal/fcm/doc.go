// Package fcm is the platform Firebase Cloud Messaging, over its HTTP v1 API: the device tokens (registration tokens
// and Firebase installation ids), the message that is made of a notification's blocks, the credentials of the project,
// the transport behind the three methods that internal/sender declares (Run, Send, Drain), and what each answer means.
//
// It stores nothing, and it decides nothing about a notification's later life: attempts are counted, delays chosen and
// dead tokens removed elsewhere, from the results given here. It imports neither another platform, nor the queue, nor
// the configuration, nor the simulator.
//
// "The reference" in comments is https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages, "the error
// codes" https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, and "scale-fcm"
// https://firebase.google.com/docs/cloud-messaging/scale-fcm.
package fcm

// Name is the platform's, as in device tokens and in the API.
const Name = "fcm"
